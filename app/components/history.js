// Streamlit makes an entry in the browser's history of every change of the address. Here only another page or another
// photograph of the gallery is one, so that Back leads to the view before; a word, a head or an edit replaces its entry.
export default function () {
  if (window.gliedHistory) return
  const place = (window.gliedHistory = { stood: location.href })
  const { pushState, replaceState } = history
  // On its way to another page Streamlit writes into the address of the page it leaves: that one's last that stood for
  // a moment is put back.
  let timer = null
  const stand = () => {
    place.stood = location.href
  }
  const write = (how, state, url) => {
    how.call(history, state, "", url)
    clearTimeout(timer)
    timer = setTimeout(stand, 500)
  }
  history.replaceState = (state, _, url) => write(replaceState, state, url)
  history.pushState = (state, _, url) => {
    const from = new URL(location.href),
      to = new URL(url, from),
      shown = from.searchParams.get("photo")
    if (from.pathname !== to.pathname) {
      if (new URL(place.stood).pathname === from.pathname) replaceState.call(history, {}, "", place.stood)
      write(pushState, state, url)
    } else write(shown && to.search && shown !== to.searchParams.get("photo") ? pushState : replaceState, state, url)
  }
  window.addEventListener("popstate", stand)
}
