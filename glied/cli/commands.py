"""All commands: importing their modules registers them."""

from glied.cli import caption, evaluate, experiments, prepare, studio, train
from glied.cli.options import app, bench_app, train_app

COMMANDS = (prepare, train, caption, evaluate, experiments, studio)

app.command(train_app, name="train", help="Train captioners and detectors.")
app.command(
    bench_app, name="bench", help="Measure speed, and compare ways to decode and captioners that are trained alike."
)
