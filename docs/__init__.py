"""The documents, what is made of the code for them, and what checks them."""
