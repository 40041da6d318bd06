// On a telephone Streamlit's menu of pages lies over the page: it closes once a page was chosen in it.
if (!window.gliedMenu) {
  window.gliedMenu = true
  document.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return
    if (event.target.closest('[data-testid="stSidebarNavLink"]'))
      setTimeout(() => document.querySelector('[data-testid="stSidebarCollapseButton"] button')?.click())
  })
}
