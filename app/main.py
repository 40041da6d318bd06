"""GLIED Studio: `streamlit run app/main.py`."""

import sys
from pathlib import Path

ROOT = str(Path(__file__).resolve().parents[1])
if ROOT not in sys.path:  # streamlit puts app/ there, not the repository
    sys.path.insert(0, ROOT)

import streamlit as st  # noqa: E402

from app.components.history import follow_history  # noqa: E402
from app.texts import plain  # noqa: E402
from app.widgets import tour  # noqa: E402
from glied.errors import GliedError  # noqa: E402

HERE = Path(__file__).parent
ICON = str(HERE / "icon.svg")
st.set_page_config(page_title="GLIED Studio", page_icon=ICON, layout="wide")
st.logo(ICON, size="large")
st.html(
    "<style>.stMainBlockContainer { padding-top: 4.5rem; }"
    '[data-testid="stButtonGroup"] [role="radiogroup"] { flex-wrap: wrap; }'  # else they scroll out of a phone
    # in Streamlit it is paler than is readable
    '[data-testid="stCaptionContainer"] { opacity: .85; }'
    '[data-testid="stLayoutWrapper"]:has(> :is(.st-key-history, .st-key-menu)) { display: none; }'
    '[data-testid="stLayoutWrapper"]:has(> .st-key-heading) { position: absolute; width: 1px !important; }'
    # why a file is refused, which Streamlit reads out only
    ".stFileChip:has([role=alert]) { flex-wrap: wrap; max-width: 100%; height: auto; }"
    ".stFileChip [role=alert] { position: static; width: 100%; height: auto; margin: 0; clip-path: none; clip: auto; "
    "white-space: normal; font-size: .875rem; }"
    # some colours of code are paler than is readable
    '[data-testid="stCode"] .token { color: inherit !important; }'
    # and the letters of charts are, too
    ":is(.xtick, .ytick, .cbaxis, .cbtitle) text, :is(.xtitle, .ytitle, .legendtext)"
    "{ fill: currentColor !important; }"
    # read out, not seen
    ".st-key-heading { position: absolute; width: 1px !important; overflow: hidden; clip-path: inset(50%); }</style>"
)
with st.container(key="menu"):
    st.html(f"<script>{(HERE / 'components' / 'menu.js').read_text()}</script>", unsafe_allow_javascript=True)
page = st.navigation(
    [
        st.Page("views/gallery.py", title="Gallery", icon=":material/photo_library:", default=True),
        st.Page("views/explore.py", title="Explore", icon=":material/travel_explore:"),
        st.Page("views/collocations.py", title="Collocations", icon=":material/grid_on:"),
        st.Page("views/decoding.py", title="Decoding", icon=":material/account_tree:"),
        st.Page("views/compare.py", title="Compare", icon=":material/compare:"),
        st.Page("views/whatif.py", title="What if", icon=":material/experiment:"),
        st.Page("views/dataset.py", title="Data set", icon=":material/analytics:"),
        st.Page("views/how.py", title="How it works", icon=":material/schema:"),
        st.Page("views/about.py", title="About", icon=":material/menu_book:"),
    ],
    position="top",
)
st.set_page_config(page_title=f"{page.title} · GLIED Studio")
if page.url_path in (
    "explore",
    "collocations",
    "decoding",
    "compare",
    "whatif",
    "how",
):  # the others have titles to see
    with st.container(key="heading"):
        st.title(page.title, anchor=False)
try:
    follow_history()
    tour.draw(page)
    page.run()
except GliedError as error:
    st.error(plain(str(error)), icon=":material/error:")
