/* The box above a list of jobs ticks all of them. */
document.addEventListener("DOMContentLoaded", () => {
  const all = document.getElementById("action-toggle");
  if (!all) return;
  const boxes = document.querySelectorAll("input.action-select");
  all.addEventListener("change", () => {
    for (const box of boxes) box.checked = all.checked;
  });
});
