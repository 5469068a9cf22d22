// Samples whose pictures are buttons. The name of the one that is pressed goes to Python as `chosen`.
export default function ({ data, parentElement, setTriggerValue }) {
  const gallery = parentElement.querySelector(".gallery");
  gallery.replaceChildren(...data.samples.map(({ name, picture }) => {
    const button = document.createElement("button");
    const image = document.createElement("img");
    button.type = "button";
    image.src = `data:image/webp;base64,${picture}`;
    image.alt = "";
    button.append(image, name);
    button.addEventListener("click", () => setTriggerValue("chosen", name));
    return button;
  }));
}
