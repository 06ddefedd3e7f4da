// Limit samples: images pinned as the reference for "just still good" and "already bad", beside the one that is judged.

class LimitSamples {
  /** `get(path, query)` asks the server; `told` is called when the samples have changed. */
  constructor(project, get, told) {
    this.project = project;
    this.get = get;
    this.told = told;
    this.samples = []; // {image, verdict, inspector, name, w, h}
    this.compared = null; // the one that is shown beside the image
    this.node = make("div", { className: "limits", hidden: true });
    this.node.setAttribute("role", "group");
    this.node.setAttribute("aria-label", "Limit samples");
  }

  has(image) {
    return this.samples.some((sample) => sample.image === image);
  }

  async load() {
    try {
      this.take(await this.get("/ssn/limit-samples", {}));
    } catch {
      clearTimeout(this.again);
      this.again = setTimeout(() => this.node.isConnected && this.load(), 5000); // the server may be restarting
    }
  }

  /** Pin an image with its verdict, or take the pin away; returns what to tell people. */
  async toggle(image, name, verdict) {
    const pinned = this.has(image);
    if (!pinned && verdict !== "good" && verdict !== "bad") return "A limit sample needs a verdict first: good or bad";
    const body = { token: queue.tokens[this.project], inspector: queue.inspector, image, verdict: pinned ? null : verdict };
    try {
      const response = await fetch("/ssn/limit-samples", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
      const answer = await response.json();
      if (!response.ok) return answer.error;
      this.take(answer);
    } catch {
      return "The server did not answer: nothing was pinned";
    }
    return pinned ? `${name} is no limit sample any more` : `Pinned: ${name} is a limit sample for ${verdict}`;
  }

  take({ samples }) {
    this.samples = samples;
    if (this.compared && !this.has(this.compared.image)) this.compared = null;
    this.told();
  }

  draw(palette, thumb) {
    const key = JSON.stringify([this.samples, this.compared?.image]);
    if (this.drawn === key) return;
    this.drawn = key;
    this.node.hidden = !this.samples.length;
    this.node.replaceChildren(make("div", { className: "title", textContent: "Limit samples" }), ...this.samples.map((sample) => {
      const { word, sign, colour } = palette[sample.verdict];
      const picture = make("img", { src: thumb(sample.image), alt: "", draggable: false });
      const button = make("button", { type: "button", className: "limit" }, picture, make("span", { className: "mark", textContent: sign }));
      const on = this.compared?.image === sample.image;
      button.style.setProperty("--verdict", colour);
      button.title = `${sample.name} (pinned by ${sample.inspector}). Click: show it beside the image`;
      button.setAttribute("aria-label", `Limit sample ${word}: ${sample.name}`);
      button.setAttribute("aria-pressed", String(on));
      button.onclick = () => {
        this.compared = on ? null : sample;
        this.told();
      };
      return button;
    }));
  }
}
