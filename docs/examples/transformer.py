"""A Transformer decoder whose cross-attention reads regions: a captioner of one's own, and its trace.

    python docs/examples/transformer.py cup.npz

It learns three photographs by heart in seconds and knows nothing else. `Adapter` at the end is all that a trace needs.
"""

import sys

import torch
from PIL import Image
from torch import nn

import glied
from glied.files import STUDIO
from glied.regions import open_source

GALLERY = STUDIO / "app" / "photographs"
CAPTIONS = {
    "chelsea": "a cat looks at the camera",
    "coffee": "a cup of coffee on a wooden table",
    "astronaut": "a smiling woman in an orange suit",
}
WORDS = ["<pad>", "<s>", "</s>", *sorted({word for text in CAPTIONS.values() for word in text.split()})]
LAYERS, HEADS = 2, 4


class Layer(nn.Module):
    """Attention to the words so far, to the regions, and a feed-forward network."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.words, self.regions = (nn.MultiheadAttention(d, HEADS, batch_first=True) for _ in range(2))
        self.inner = nn.Sequential(nn.Linear(d, 2 * d), nn.ReLU(), nn.Linear(2 * d, d))
        self.norms = nn.ModuleList(nn.LayerNorm(d) for _ in range(3))

    def forward(self, x: torch.Tensor, I: torch.Tensor, kept: torch.Tensor) -> tuple:
        """The words' new vectors [L, d], and the weights [heads, L, L] of words and [heads, L, N] of regions."""
        later = torch.ones(len(x), len(x), dtype=torch.bool).triu(1)
        found, of_words = self.words(x, x, x, attn_mask=later, average_attn_weights=False)
        x = self.norms[0](x + found)
        found, of_regions = self.regions(x, I, I, key_padding_mask=~kept, average_attn_weights=False)
        x = self.norms[1](x + found)
        return self.norms[2](x + self.inner(x)), of_words, of_regions


class Decoder(nn.Module):
    """Layers over the words of a caption."""

    def __init__(self, width: int, d: int = 64) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(len(WORDS), d), nn.Embedding(20, d)
        self.see = nn.Sequential(nn.Linear(width, d), nn.LayerNorm(d))
        self.layers, self.say = nn.ModuleList(Layer(d) for _ in range(LAYERS)), nn.Linear(d, len(WORDS))

    def forward(self, features: torch.Tensor, ids: torch.Tensor, kept: torch.Tensor) -> tuple:
        """Scores of the next word after each of L input words [L, words], and the weights of every layer by name."""
        x, I, weights = self.embed(ids) + self.place(torch.arange(len(ids))), self.see(features), {}
        for i, layer in enumerate(self.layers):
            x, weights[f"x{i}"], weights[f"v{i}"] = layer(x, I, kept)
        return self.say(x), weights


torch.manual_seed(0)
source = open_source("detector")  # 36 regions with labels
photographs = {name: Image.open(GALLERY / f"{name}.png").convert("RGB") for name in CAPTIONS}
regions = {name: source.find_regions(image) for name, image in photographs.items()}
features = {name: torch.tensor(found.features) for name, found in regions.items()}
everything = torch.ones(36, dtype=torch.bool)

model = Decoder(source.feature_dim)
optimizer = torch.optim.Adam(model.parameters(), 1e-3)
for _ in range(30):
    for name, text in CAPTIONS.items():
        ids = torch.tensor([WORDS.index(word) for word in ["<s>", *text.split(), "</s>"]])
        loss = nn.functional.cross_entropy(model(features[name], ids[:-1], everything)[0], ids[1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

said = [1]
while len(said) < 12 and said[-1] != 2:  # greedy
    said.append(int(model(features["coffee"], torch.tensor(said), everything)[0][-1].argmax()))

layers = [((f"x{i}", "words", "context"), (f"v{i}", "regions", "local")) for i in range(LAYERS)]
adapter = glied.Adapter(
    captioner="Transformer",
    words=WORDS,
    functions=tuple(glied.AttentionFunction(name, None, over, role) for pair in layers for name, over, role in pair),
    replay=lambda seen, ids, regions, attributes: model(seen, ids, regions),
    begin="<s>",
    end="</s>",
    source=source.name,
)
cup, found = photographs["coffee"], regions["coffee"]
caption = [WORDS[i] for i in said[1:] if i != 2]
trace = adapter.trace(features["coffee"], caption, cup.size, found.boxes, found.labels, falls=True)
trace.save(sys.argv[1], cup)
print(trace.text)
