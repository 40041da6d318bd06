"""The tour goes through its pages and back, and leaves nothing behind."""

from collections.abc import Callable
from pathlib import Path

from streamlit.testing.v1 import AppTest

from app.widgets.tour import STEPS

Open = Callable[..., AppTest]


def callout(app: AppTest) -> str:
    assert not app.exception
    assert not app.error
    return next((text.value for text in app.markdown if text.value.startswith("**Tour")), "")


def click(app: AppTest, key: str) -> AppTest:
    return app.button(key=key).click().run()


def test_every_step_is_on_a_page_that_is_there(root: Path):
    assert len(STEPS) == 6
    assert all((root / "app" / "views" / f"{step.page}.py").is_file() for step in STEPS)


def test_the_tour_walks_through_all_pages_and_back(open_app: Open):
    app = open_app(search="man")  # which a widget owns
    assert not callout(app)
    app.button(key="take_tour").click().run()
    titles = []
    for step in STEPS:
        titles.append(callout(app))
        assert step.title in titles[-1]
        assert not [button for button in app.button if button.key == "tour_here"]  # on the page that it speaks about
        assert app.button(key="tour_back").disabled == (step is STEPS[0])  # both are always there, in their place
        assert app.button(key="tour_next").disabled == (step is STEPS[-1])
        if step is not STEPS[-1]:
            click(app, "tour_next")
    assert len(set(titles)) == 6
    assert callout(click(app, "tour_back")) == titles[4]
    assert not callout(click(app, "tour_end"))
    assert app.title[0].value == "Compare"
    assert not callout(app.switch_page("views/explore.py").run())


def test_who_leaves_the_tour_is_led_back(open_app: Open):
    app = open_app()
    app.button(key="take_tour").click().run()
    app.switch_page("views/about.py").run()
    assert STEPS[0].title in callout(app)
    click(app, "tour_here")
    assert app.selectbox(key="photo").value == "grace_hopper"
    assert not [button for button in app.button if button.key == "tour_here"]
