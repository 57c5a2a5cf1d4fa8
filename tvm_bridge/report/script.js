// What a pointer over a curve reads: the best so far at that many measurements.
for (const chart of document.querySelectorAll("svg.curve")) {
  const points = JSON.parse(chart.dataset.points), readout = chart.querySelector(".readout"), usual = readout.textContent;
  const dot = document.createElementNS(chart.namespaceURI, "circle");
  dot.setAttribute("class", "pointer");
  chart.addEventListener("pointermove", (event) => {
    const place = new DOMPoint(event.clientX, event.clientY).matrixTransform(chart.getScreenCTM().inverse());
    const point = points.findLast(([x]) => x <= place.x + 1);
    if (!point) return;
    dot.setAttribute("cx", point[0]);
    dot.setAttribute("cy", point[1]);
    chart.append(dot);
    readout.textContent = point[2];
  });
  chart.addEventListener("pointerleave", () => { dot.remove(); readout.textContent = usual; });
}
// On paper nothing can be unfolded.
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((each) => { each.open = true; }));
