/* What htmx can't say on its own: that the page of a running run follows it, has lost contact, has it again. */
(function () {
  "use strict";
  document.documentElement.classList.add("scripted");
  function say(event, lost) {
    var note = document.getElementById("contact");
    if (event.target.id === "live" && note) {
      var text = lost ? note.dataset.lost : "";
      if (note.textContent !== text) note.textContent = text;
    }
  }
  ["htmx:sendError", "htmx:responseError", "htmx:timeout"].forEach(function (name) {
    document.addEventListener(name, function (event) { say(event, true); });
  });
  document.addEventListener("htmx:afterRequest", function (event) {
    if (event.detail.successful) say(event, false);
  });
})();
