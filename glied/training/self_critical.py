"""Self-critical sequence training: captions are sampled, and those that score above their baseline become likelier."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from glied.captions import DecodeOptions
from glied.checkpoint import Checkpoint, load_pair
from glied.data.dataset import CAPTIONS
from glied.decode import NEVER, beam_search, draw
from glied.model import Captioner, Inputs, Memory
from glied.training.loop import join, plan_steps, resolve, settings
from glied.training.material import Material, batch, hide, mirror, prepare, put
from glied.training.options import Places, ReinforceOptions
from glied.training.reward import CiderD
from glied.vocabulary import EOS, Vocabulary

GREEDY = DecodeOptions(method="greedy", no_repeat_ngram=0)


def references(captions: Sequence[Sequence[str]], vocabulary: Vocabulary) -> list[list[int]]:
    """Captions as the reward reads them: ids of words, then EOS."""
    return [[*vocabulary.encode(words), EOS] for words in captions]


def ended(tokens: Int[Tensor, "... T"]) -> list[list[int]]:
    """Sampled captions without BOS, up to and with their EOS."""
    rows = tokens.flatten(0, -2)[:, 1:].tolist()
    return [ids[: ids.index(EOS) + 1] for ids in rows]


def sampled_log_probability(
    model: Captioner, memory: Memory, tokens: Int[Tensor, "B C T"], bf16: bool
) -> Float[Tensor, "B C"]:
    """log p of sampled captions in one teacher-forced pass, among the words that sampling may take. An EOS forced by
    max_length is excluded: the policy did not choose it."""
    target = tokens[..., 1 : model.config.max_length + 1]
    chosen = torch.ones(target.shape, dtype=torch.bool, device="cpu")
    chosen[..., 1:] = target[..., :-1].cpu() != EOS
    live = put(chosen.flatten().nonzero()[:, 0], tokens.device)
    with torch.autocast(tokens.device.type, torch.bfloat16, enabled=bf16):
        c_tilde = model(tokens[..., : target.shape[-1]], memory).c_tilde
        logits = model.logits(c_tilde.flatten(0, 2).index_select(0, live)).float()
    for word in NEVER:
        logits[:, word] = -torch.inf
    spoken = logits.log_softmax(-1).gather(-1, target.flatten()[live][:, None])[:, 0]
    return spoken.new_zeros(target.numel()).index_copy(0, live, spoken).view_as(target).sum(-1)


def advantage(reward: Float[Tensor, "B C"]) -> Float[Tensor, "B C"]:
    """Each reward minus the mean of the photograph's other rewards."""
    n = reward.shape[1]
    return (reward - reward.mean(1, keepdim=True)) * n / (n - 1)  # Eq. (20) Choice (13)


def policy_loss(advantages: Float[Tensor, "B C"], log_p: Float[Tensor, "B C"], captions: int) -> Float[Tensor, ""]:
    """The loss whose gradient is REINFORCE's, for a part of a step of `captions` captions."""
    return -(advantages * log_p).sum() / captions  # Eq. (21)


def step_loss(
    model: Captioner,
    inputs: Inputs,
    images: Sequence[int],
    cider: CiderD,
    vocabulary: Vocabulary,
    captions: int,
    options: ReinforceOptions,
) -> tuple[Float[Tensor, ""], dict[str, float]]:
    """The loss of the samples of some photographs (`images`, by their numbers in `cider`) as part of a step of
    `captions` captions; and the mean reward and length.

    Dropout is on where the photographs are encoded, once for both passes, and off where words are: samples are drawn
    from exactly the distribution whose gradient is taken.
    """
    device = inputs.features.device
    sampling = DecodeOptions(method="sample", n_best=options.samples, no_repeat_ngram=0)
    with torch.autocast(device.type, torch.bfloat16, enabled=options.bf16):
        memory = model.train().encode(inputs)
        model.eval()
        with torch.no_grad():
            tokens, _ = draw(model, memory, sampling)
            greedy = options.baseline == "greedy" and beam_search(model, model.encode(inputs), vocabulary, GREEDY)
    log_p = sampled_log_probability(model, memory, tokens, options.bf16)  # a GPU computes it while rewards are found
    samples = ended(tokens)
    reward = rewards(cider, images, samples)
    if greedy:
        best = references([decoded.captions[0].words for decoded in greedy], vocabulary)
        advantages = reward - rewards(cider, images, best)
    else:
        advantages = advantage(reward)
    words = sum(map(len, samples)) - len(samples)
    return policy_loss(put(advantages, device), log_p, captions), {
        "reward": reward.sum().item() / captions,
        "length": words / captions,
    }


def rewards(cider: CiderD, images: Sequence[int], captions: Sequence[Sequence[int]]) -> Float[Tensor, "B C"]:
    """Rewards of captions, the same number for every image."""
    each = len(captions) // len(images)
    found = [cider.score(image, captions[i * each : (i + 1) * each]) for i, image in enumerate(images)]
    return torch.tensor(np.array(found), dtype=torch.float32, device="cpu")


def reinforce(
    checkpoint: Path, places: Places, options: ReinforceOptions, material: Material | None = None
) -> Checkpoint:
    """Trains a captioner further on the CIDEr-D of its samples; goes on from the state in the run's folder.

    Args:
        material: what `prepare` reads from `places`, if it was read already.

    Returns:
        the checkpoint of the epoch with the best val CIDEr (beam 3).

    Raises:
        GliedError: the detector is not the captioner's, the data cannot be used, or the run's folder has another
            training's state.
    """
    device, _, _ = join()
    options = resolve(options, device)
    start, _ = load_pair(checkpoint, places.detector)
    if material is None:
        material = prepare(places, options.mirror, start.vocabulary)
    cider = CiderD([references(p.tokens[:CAPTIONS], material.vocabulary) for p in material.train.photographs])

    def objective(step: int, part: Tensor, whole: Tensor) -> tuple[Tensor, dict[str, float]]:
        rows = mirror(part, material.train)
        inputs = hide(batch(material.train, material.attributes[part], rows, device), options.hide)
        count = len(whole) * options.samples
        return step_loss(start.model, inputs, part.tolist(), cider, material.vocabulary, count, options)

    title = f"rl {start.model.config.architecture}, seed {options.seed}"
    card = material.provenance("train rl", options) | {"initial": {"digest": start.digest} | start.provenance}
    identity = material.identity(settings(options), start.digest)
    plan = plan_steps(options, material.draw)
    return material.fit(title, places, options, start.model, identity, plan, objective, card)
