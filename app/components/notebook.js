// The host of a component in a notebook. Before it come STYLE and the scripts of the component, which is called
// `component` here. A saved notebook holds a page that draws it without a kernel. Where a kernel runs, anywidget keeps a
// model for the same place: it gets what a person chooses, and its data may change.

const THEMES = ["class", "style", "data-theme", "data-jp-theme-light", "data-vscode-theme-kind"]
const gliedModels = (window.gliedModels ??= new Map()) // by place

// The first colour that lies under a node, as red, green and blue; white if none does.
function groundUnder(node) {
  for (let under = node; under; under = under.parentElement ?? under.getRootNode().host) {
    const [red, green, blue, opacity = 1] = getComputedStyle(under)
      .backgroundColor.match(/[\d.]+/g)
      .map(Number)
    if (opacity > 0.5) return [red, green, blue]
  }
  return [255, 255, 255]
}

// Draws the component into an element, in the colours of the page around it. `modelNow` gives the model if there is one.
function host(element, data, modelNow) {
  const root = element.attachShadow({ mode: "open" })
  const style = document.createElement("style")
  const ground = document.createElement("div")
  const problem = document.createElement("p")
  style.textContent = STYLE
  ground.className = "notebook"
  problem.className = "problem"
  problem.setAttribute("role", "alert")
  root.append(style, ground, problem)
  element.dataset.lmSuppressShortcuts = "" // else Jupyter takes the arrow keys and letters for its own

  function colour() {
    if (!element.isConnected) return
    const [red, green, blue] = groundUnder(element)
    ground.style.setProperty("--st-background-color", `rgb(${red}, ${green}, ${blue})`)
    ground.classList.toggle("dark", 0.2126 * red + 0.7152 * green + 0.0722 * blue < 128)
  }
  const sized = new ResizeObserver(colour) // also once the element is put on the page
  const themed = new MutationObserver(colour)
  sized.observe(element)
  for (const node of [document.documentElement, document.body])
    themed.observe(node, { attributes: true, attributeFilter: THEMES })
  document.addEventListener("transitionend", colour)

  let model = null
  let leave = null
  const send = (name, value) => {
    model?.set(name, value)
    model?.save_changes()
  }
  function draw() {
    leave = component({
      data: { ...(model?.get("data") ?? data), live: Boolean(model) },
      parentElement: ground,
      setStateValue: send,
      setTriggerValue: send,
    })
    problem.textContent = model?.get("problem") ?? ""
  }
  function meet() {
    if (modelNow() === model) return
    model?.off(null, draw)
    model = modelNow()
    model?.on("change:data", draw)
    model?.on("change:problem", draw)
    draw()
  }
  draw()
  meet()
  window.addEventListener("glied:model", meet)
  return () => {
    leave?.()
    sized.disconnect()
    themed.disconnect()
    document.removeEventListener("transitionend", colour)
    window.removeEventListener("glied:model", meet)
    model?.off(null, draw)
  }
}

// What the page of a saved notebook calls: draws wherever the page has this place.
function drawSaved(place, data) {
  for (const element of document.querySelectorAll(`[data-glied="${place}"]`))
    if (!element.shadowRoot) host(element, data, () => gliedModels.get(place))
}

// What anywidget calls: with every model, and where the component stands on its own.
export default {
  initialize({ model }) {
    const tell = () => window.dispatchEvent(new Event("glied:model"))
    gliedModels.set(model.get("place"), model)
    tell()
    return () => {
      gliedModels.delete(model.get("place"))
      tell()
    }
  },
  render({ model, el }) {
    const element = document.createElement("div")
    el.append(element)
    return host(element, model.get("data"), () => model)
  },
}
