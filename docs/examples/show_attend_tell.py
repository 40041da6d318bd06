"""Show, Attend and Tell (Xu et al. 2015) over a grid of 7 x 7 cells: a captioner of one's own, and its trace.

    python docs/examples/show_attend_tell.py cat.npz

It learns three photographs by heart in seconds and knows nothing else. `Adapter` at the end is all that a trace needs.
"""

import sys

import torch
from PIL import Image
from torch import nn

import glied
from glied.files import STUDIO
from glied.regions.detector import Trunk, to_pixels

GALLERY = STUDIO / "app" / "photographs"
CAPTIONS = {
    "chelsea": "a cat looks at the camera",
    "coffee": "a cup of coffee on a wooden table",
    "astronaut": "a smiling woman in an orange suit",
}
WORDS = ["<pad>", "<start>", "<stop>", *sorted({word for text in CAPTIONS.values() for word in text.split()})]


class ShowAttendTell(nn.Module):
    """An LSTM that looks at the cells before each word."""

    def __init__(self, d: int = 128) -> None:
        super().__init__()
        self.embed, self.see, self.say = nn.Embedding(len(WORDS), d), nn.Linear(1280, d), nn.Linear(d, len(WORDS))
        self.query, self.key, self.score = nn.Linear(d, d), nn.Linear(d, d), nn.Linear(d, 1)
        self.cell = nn.LSTMCell(2 * d, d)

    def forward(self, cells: torch.Tensor, ids: torch.Tensor, kept: torch.Tensor) -> tuple:
        """Scores of the next word after each of L input words [L, words], and the weights of the cells [1, L, 49]."""
        I = self.see(cells)
        h = c = I[kept].mean(0)[None]
        scores, rows = [], []
        for x in self.embed(ids):
            found = self.score(torch.tanh(self.query(h) + self.key(I)))[:, 0]
            weights = found.masked_fill(~kept, -torch.inf).softmax(0)
            h, c = self.cell(torch.cat([x, weights @ I])[None], (h, c))
            scores.append(self.say(h[0]))
            rows.append(weights)
        return torch.stack(scores), {"v": torch.stack(rows)[None]}


torch.manual_seed(0)
trunk, everything = Trunk(pretrained=True).eval(), torch.ones(49, dtype=torch.bool)
photographs = {name: Image.open(GALLERY / f"{name}.png").convert("RGB") for name in CAPTIONS}
with torch.inference_mode():
    maps = {name: trunk(to_pixels(image.resize((224, 224)))[None])[2] for name, image in photographs.items()}
cells = {name: found[0].flatten(1).T.clone() for name, found in maps.items()}  # [49, 1280], row by row

model = ShowAttendTell()
optimizer = torch.optim.Adam(model.parameters(), 3e-3)
for _ in range(30):
    for name, text in CAPTIONS.items():
        ids = torch.tensor([WORDS.index(word) for word in ["<start>", *text.split(), "<stop>"]])
        loss = nn.functional.cross_entropy(model(cells[name], ids[:-1], everything)[0], ids[1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

said = [1]
while len(said) < 12 and said[-1] != 2:  # greedy
    said.append(int(model(cells["chelsea"], torch.tensor(said), everything)[0][-1].argmax()))

adapter = glied.Adapter(
    captioner="Show, Attend and Tell",
    words=WORDS,
    functions=(glied.AttentionFunction("v", None, "regions", "local"),),
    replay=lambda seen, ids, regions, attributes: model(seen, ids, regions),
    begin="<start>",
    end="<stop>",
    source="cells of EfficientNet-Lite2",
)
cat = photographs["chelsea"]
caption = [WORDS[i] for i in said[1:] if i != 2]
trace = adapter.trace(cells["chelsea"], caption, cat.size, glied.grid_boxes(cat.size, 7, 7), falls=True)
trace.save(sys.argv[1], cat)
print(trace.text)
