"""The task spec: read, checked with line and column, expanded into `maos_bot.model.Spec`; starter and import too."""
