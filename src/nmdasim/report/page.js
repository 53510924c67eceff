"use strict";
(() => {
  const config = { displaylogo: false, responsive: true, showSendToCloud: false };
  const flatButtons = [["toImage", "resetScale2d"]];
  const solidButtons = [["toImage", "pan3d", "orbitRotation", "tableRotation"]];

  async function draw(plot) {
    plot.dataset.drawn = "busy";
    const source = document.querySelector(`script[data-for="${plot.id}"]`);
    const figure = JSON.parse(source.textContent);
    const flat = !figure.layout.scene;
    // Beside the channel there is no room for names on a telephone; the radius profile has them.
    if (!flat && plot.clientWidth < 560) figure.layout.scene.annotations = [];
    const toImageButtonOptions = { format: flat ? "svg" : "png", filename: plot.id, scale: 2 };
    try {
      await Plotly.newPlot(plot, figure.data, figure.layout, {
        ...config, toImageButtonOptions, modeBarButtons: flat ? flatButtons : solidButtons,
      });
      plot.dataset.drawn = "yes";
    } catch (error) {
      plot.dataset.drawn = "failed";
      plot.textContent = `This figure could not be drawn: ${error.message}`;
      console.error(plot.id, error);
    }
    if (!flat) {
      await keepForPrint(plot);
    }
  }

  // Browsers often print a 3-D view blank, so a picture of it stands in on paper.
  async function keepForPrint(plot) {
    try {
      const image = new Image();
      image.className = "snapshot";
      image.alt = "Pore and ligand from the side";
      const { clientWidth: width, clientHeight: height } = plot;
      image.src = await Plotly.toImage(plot, { format: "png", width, height, scale: 2 });
      plot.parentElement.append(image);
      plot.parentElement.classList.add("has-snapshot");
    } catch (error) {
      console.info("no picture of the 3-D view for printing:", error);
    }
  }

  // A closed section has no size to draw into: its figures wait until it is opened.
  async function drawAll(root) {
    for (const plot of root.querySelectorAll(".plot:not([data-drawn])")) {
      if (!plot.closest("details.run:not([open])")) await draw(plot);
    }
  }

  function connect(controls) {
    const plot = document.getElementById(controls.dataset.scene);
    controls.addEventListener("change", ({ target }) => {
      const chosen = (plot.data ?? []).flatMap((trace, i) =>
        trace.meta === target.dataset.groups ? [i] : []);
      if (chosen.length) Plotly.restyle(plot, { visible: target.checked }, chosen);
    });
    for (const button of controls.querySelectorAll("[data-view]")) {
      button.addEventListener("click", () => {
        Plotly.relayout(plot, structuredClone(plot.layout.meta[button.dataset.view]));
      });
    }
  }

  for (const button of document.querySelectorAll("[data-save]")) {
    const plot = document.getElementById(button.dataset.save);
    button.addEventListener("click", () => {
      const { clientWidth: width, clientHeight: height } = plot;
      Plotly.downloadImage(plot, { format: "svg", filename: plot.id, width, height });
    });
  }
  document.querySelectorAll(".controls").forEach(connect);
  document.querySelectorAll("details.run").forEach((details) =>
    details.addEventListener("toggle", () => drawAll(details)));
  drawAll(document).then(() => { document.documentElement.dataset.ready = "yes"; });
})();
