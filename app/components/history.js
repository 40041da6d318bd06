// Streamlit makes an entry in the browser's history for every change of the address. Here an entry is made only for
// another page, and for what a person's act changed of the view: photograph, word, head, pinned region, words to begin
// with. So Back undoes these. Other changes, such as what the app then adds to the address, replace the current entry.
const VIEW = { photo: false, step: false, head: false, region: true, prefix: true, pin: true, lane: true } // whether it may be absent

export default function () {
  if (window.gliedHistory) return
  const place = (window.gliedHistory = { stood: location.href })
  const { pushState, replaceState } = history
  let acted = false // since the address last changed
  for (const kind of ["pointerdown", "keydown", "input"]) window.addEventListener(kind, () => (acted = true), true)
  // Before it goes to another page, Streamlit changes the address of the page it leaves. The last address that stayed for
  // a moment is restored then.
  let timer = null
  const stand = () => {
    place.stood = location.href
  }
  const write = (how, state, url) => {
    how.call(history, state, "", url)
    acted = false
    clearTimeout(timer)
    timer = setTimeout(stand, 500)
  }
  // if an address has lost its step, for example, its page is being left
  const views = (from, to) =>
    Object.entries(VIEW).every(
      ([name, absent]) => absent || to.searchParams.has(name) || !from.searchParams.has(name),
    ) &&
    Object.entries(VIEW).some(
      ([name, absent]) =>
        from.searchParams.get(name) !== to.searchParams.get(name) && (absent || from.searchParams.has(name)),
    )
  history.replaceState = (state, _, url) => write(replaceState, state, url)
  history.pushState = (state, _, url) => {
    const from = new URL(location.href),
      to = new URL(url, from)
    if (from.pathname !== to.pathname) {
      if (new URL(place.stood).pathname === from.pathname) replaceState.call(history, {}, "", place.stood)
      write(pushState, state, url)
    } else write(acted && from.search && to.search && views(from, to) ? pushState : replaceState, state, url)
  }
  window.addEventListener("popstate", () => {
    acted = false
    stand()
  })
}
