// Browsers start no worker for a page that was opened as a file: an iframe does there what the search has a worker for.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      this.inside = frame.contentWindow;
      window.addEventListener("message", (event) => {
        if (event.source === this.inside) this.dispatchEvent(new MessageEvent("message", { data: event.data }));
      });
      const page = frame.contentDocument;
      page.open();
      page.write("<script>postMessage = (data) => parent.postMessage(data, '*')</scr" + "ipt>");
      page.write(`<script src="${url}"></scr` + "ipt>");
      page.close();
      // Later than `open`, which takes all listeners away.
      this.started = new Promise((resolve) => this.inside.addEventListener("load", resolve));
    }

    postMessage(data) {
      this.started.then(() => this.inside.dispatchEvent(new MessageEvent("message", { data })));
    }
  };
}
