
// Shows the values under the pointer in the legend of each chart, at the same time in all of them.
const figures = [...document.querySelectorAll("figure[data-chart]")].map((element) => ({
  element, ...JSON.parse(element.dataset.chart), svg: element.querySelector("svg"),
  cursor: element.querySelector(".cursor"), keys: element.querySelectorAll(".key b"),
  time: element.querySelector(".time"), left: +element.dataset.left, right: +element.dataset.right,
  width: +element.dataset.width,
}));
function point(index) {
  for (const { times, lines, cursor, keys, time, left, right } of figures) {
    const x = index < 0 ? -9 : left + (times[index] / (times.at(-1) || 1)) * (right - left);
    cursor.setAttribute("x1", x);
    cursor.setAttribute("x2", x);
    time.textContent = index < 0 ? "" : `${times[index]} s`;
    keys.forEach((key, line) => {
      const value = index < 0 ? "" : lines[line][index];
      key.textContent = value === "" ? "" : value === null ? "–" : value.toLocaleString("en");
    });
  }
}
for (const { svg, times, left, right, width } of figures) {
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const share = (((event.clientX - box.left) / box.width) * width - left) / (right - left);
    point(Math.max(0, Math.min(times.length - 1, Math.round(share * (times.length - 1)))));
  });
  svg.addEventListener("pointerleave", () => point(-1));
}
