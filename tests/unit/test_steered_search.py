"""Diverse groups, words that must or must not come, and traced samples: against brute force and plain loops."""

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import glied
from glied import api
from glied.attributes import AttributeDetector
from glied.captions import BeamHistory, DecodeOptions, rank
from glied.checkpoint import Checkpoint
from glied.decode import caption
from glied.errors import GliedError
from glied.replay import trace
from glied.scene import Regions, Scene
from glied.vocabulary import EOS

FIVE = ("a", "dog", "cat", "runs", "sits")
SCENES = [tiny.scene(5, 4, 1), tiny.scene(3, 6, 2), tiny.scene(1, 1, 3)]
FREE = DecodeOptions(no_repeat_ngram=0, length_penalty=0.0)


def captioner(architecture: str, seed: int = 0, eos: float = 0.0, **changes) -> Checkpoint:
    """A random captioner whose EOS is `eos` more likely than it came out."""
    made = tiny.checkpoint(architecture, seed=seed, **changes)
    with torch.no_grad():
        made.model.bias[EOS] += eos
    return made


def log_p(made: Checkpoint, scene: Scene, words: Sequence[str]) -> float:
    return float(trace(made, scene, words).log_probabilities.sum())


@pytest.mark.parametrize("require", [("dog",), ("sits", "dog"), ("a", "cat", "runs")])
@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_a_wide_beam_finds_the_best_of_all_captions_with_the_words(
    architecture: str, alpha: float, require: tuple[str, ...]
) -> None:
    made, scene = captioner(architecture, 1, words=FIVE), tiny.scene(4, 3, words=FIVE)
    every = [words for n in range(4) for words in itertools.product(FIVE, repeat=n)]
    options = replace(FREE, length_penalty=alpha, max_length=3, require=require, forbid=("a",) * ("a" not in require))
    object.__setattr__(options, "beam", len(every))
    object.__setattr__(options, "n_best", len(every))
    found = caption(made, [scene], options)[0].captions
    valid = [words for words in every if {*require} <= {*words} and not {*options.forbid} & {*words}]
    scored = [(log_p(made, scene, words), words) for words in valid]
    expected = sorted(((rank(p, len(words) + 1, alpha), p, words) for p, words in scored), key=lambda each: -each[0])
    assert len(valid) > 5
    assert [each.words for each in found] == [words for _, _, words in expected]
    np.testing.assert_allclose([each.score for each in found], [score for score, *_ in expected], atol=1e-4)
    np.testing.assert_allclose([each.log_probability for each in found], [p for _, p, _ in expected], atol=1e-4)


def by_definition(made: Checkpoint, scene: Scene, options: DecodeOptions, words: Sequence[str]) -> list[list[tuple]]:
    """Of each group what finished, best first, as (score, words): to the longest length, one replay a hypothesis."""
    assert options.max_length
    k, n = options.beam // options.groups, len(options.require)
    met = lambda said: len({*said} & {*options.require})  # noqa: E731
    live: list[list[tuple[float, float, tuple[str, ...]]]] = [[(0.0, 0.0, ())] for _ in range(options.groups)]
    finished: list[list[tuple[float, tuple[str, ...]]]] = [[] for _ in range(options.groups)]
    for step in range(options.max_length + 1):
        taken: list[str] = []
        for g in range(options.groups):
            grown = []
            for chosen_by, p, said in live[g]:
                replayed = trace(made, scene, said)
                row = zip(replayed.alternatives[-1], replayed.alternative_log_probabilities[-1].tolist(), strict=True)
                assert len(replayed.alternatives[-1]) == len(words) + 1  # all words, and the end
                for word, q in row:
                    missing = n - met((*said, word))
                    if word in options.forbid or (step == options.max_length and word != "<eos>"):
                        continue
                    if missing and (word == "<eos>" or missing > options.max_length - step - 1):
                        continue
                    grown.append((chosen_by + q - options.diversity * taken.count(word), p + q, (*said, word)))
            grown.sort(key=lambda each: -each[0])
            live[g] = []
            for bank in range(n + 1):
                those = [each for each in grown if met(each[2]) == bank]
                ended = [each for each in those[:k] if each[2][-1] == "<eos>"]
                finished[g] += [(rank(p, len(said), options.length_penalty), said[:-1]) for _, p, said in ended]
                kept = [each for each in those if each[2][-1] != "<eos>"][:k]
                live[g] += kept
                taken += [each[2][-1] for each in ended + kept]
    return [sorted(each, key=lambda found: -found[0]) for each in finished]


@pytest.mark.parametrize(
    ("beam", "groups", "diversity", "require"),
    [(4, 2, 0.7, ()), (6, 3, 3.0, ()), (2, 1, 0.5, ("dog", "runs")), (4, 2, 1.0, ("cat",)), (1, 1, 0.5, ("cat",))],
)
def test_the_search_is_the_one_of_its_definition(
    architecture: str, beam: int, groups: int, diversity: float, require: tuple[str, ...]
) -> None:
    for seed, alpha in ((0, 0.0), (1, 1.0)):
        made, scene = captioner(architecture, seed, 1.0, words=FIVE), tiny.scene(4, 3, seed, words=FIVE)
        options = DecodeOptions(
            beam=beam, n_best=groups, groups=groups, diversity=diversity, require=require, length_penalty=alpha,
            no_repeat_ngram=0, max_length=5, forbid=("sits",),
        )  # fmt: skip
        found = caption(made, [scene], options)[0].captions
        best = [(*each[0], g) for g, each in enumerate(by_definition(made, scene, options, FIVE)) if each]
        assert {(each.group, each.words) for each in found} == {(g, words) for _, words, g in best}
        np.testing.assert_allclose(
            [each.score for each in found], sorted((score for score, *_ in best), reverse=True), atol=1e-4
        )


def test_without_penalties_each_group_is_a_beam_of_its_own(architecture: str) -> None:
    made = captioner(architecture, 2, eos=1.0)
    for groups, beam in ((2, 6), (3, 3)):
        alone = caption(made, SCENES, DecodeOptions(beam=beam // groups, n_best=1))
        options = DecodeOptions(beam=beam, groups=groups, n_best=groups, diversity=0.0)
        for one, several in zip(alone, caption(made, SCENES, options), strict=True):
            assert {each.words for each in several.captions} == {one.captions[0].words}
            assert [each.group for each in several.captions] == list(range(groups))


def test_penalties_make_groups_differ_and_leave_log_p_alone(architecture: str) -> None:
    made = captioner(architecture, 3)
    options = DecodeOptions(beam=6, groups=3, n_best=6, diversity=2.0)
    for scene, decoded in zip(SCENES, caption(made, SCENES, options), strict=True):
        assert sorted(each.group for each in decoded.captions) == [0, 0, 1, 1, 2, 2]
        assert sorted(each.group for each in decoded.captions[:3]) == [0, 1, 2]
        assert len({each.words for each in decoded.captions[:3]}) > 1
        for each in decoded.captions:
            assert each.log_probability == pytest.approx(log_p(made, scene, each.words), abs=1e-4)
            assert each.score == pytest.approx(rank(each.log_probability, len(each.words) + 1, 1.0), abs=1e-4)


@pytest.mark.parametrize("options", [
    DecodeOptions(beam=4, groups=2, n_best=4),
    DecodeOptions(beam=3, require=("ball", "red"), n_best=3, forbid=("a",)),
    DecodeOptions(beam=4, groups=2, require=("ball",), n_best=2),
])  # fmt: skip
def test_a_batch_equals_one_by_one_and_its_history_replays(architecture: str, options: DecodeOptions) -> None:
    made = captioner(architecture, 1, 2.0)
    for scene, together in zip(SCENES, caption(made, SCENES, options, history=True), strict=True):
        (alone,) = caption(made, [scene], options, history=True)
        assert [c.words for c in together.captions] == [c.words for c in alone.captions]
        history = together.history
        assert isinstance(history, BeamHistory)
        assert (history.words, history.status) == (alone.history.words, alone.history.status)
        np.testing.assert_array_equal(history.parents, alone.history.parents)
        ended, weighed = {}, set()
        for s, status in enumerate(history.status):
            for c, fate in enumerate(status):
                if not np.isfinite(history.scores[s, c]):
                    assert fate == "dropped"
                    continue
                words = history.prefix(s, c)
                assert (history.group(s, c), *words) not in weighed, "each is weighed once"
                weighed.add((history.group(s, c), *words))
                if c % 5 == s % 5:  # a replay of every one takes long
                    said = words[: s + (words[-1] != "<eos>")]
                    total = trace(made, scene, said).log_probabilities[: s + 1].sum()
                    assert history.scores[s, c] == pytest.approx(total, abs=1e-4)
                if fate == "finished":
                    ended[history.group(s, c), tuple(words[:-1])] = history.scores[s, c]
            for g in range(options.groups):
                kept = [c for c, fate in enumerate(status) if fate == "kept" and history.group(s, c) == g]
                assert len(kept) <= options.beam // options.groups * (1 + len(options.require))
        for each in together.captions:
            assert each.log_probability == pytest.approx(ended[each.group, each.words], abs=1e-6)
            assert {*options.require} <= {*each.words}
        assert len(history.extended()) == len(set(history.extended()))


@settings(max_examples=20)
@given(
    method=st.sampled_from(["beam", "greedy", "sample"]),
    seed=st.integers(0, 3),
    forbid=st.lists(st.sampled_from(tiny.WORDS), max_size=6, unique=True).map(tuple),
    require=st.lists(st.sampled_from(tiny.WORDS), max_size=4, unique=True).map(tuple),
    prefix=st.lists(st.sampled_from(tiny.WORDS), max_size=3).map(tuple),
    ngram=st.integers(0, 3),
    room=st.integers(0, 3),
)
def test_words_that_must_come_do_and_words_that_must_not_do_not(
    method: str, seed: int, forbid: tuple, require: tuple, prefix: tuple, ngram: int, room: int
) -> None:
    require = () if method == "sample" else tuple(word for word in require if word not in forbid)
    prefix = tuple(word for word in prefix if word not in forbid)
    longest = max(1, len(prefix) + len({*require} - {*prefix}) + room)
    options = DecodeOptions(
        method=method, seed=seed, forbid=forbid, require=require, no_repeat_ngram=ngram, max_length=longest
    )
    made = captioner("glied", seed, eos=-1.0)
    for scene, decoded in zip(SCENES[:2], caption(made, SCENES[:2], options, prefix=prefix), strict=True):
        for each in decoded.captions:
            assert each.words[: len(prefix)] == prefix
            assert {*require} <= {*each.words}
            assert not {*forbid} & {*each.words}
            assert each.log_probability == pytest.approx(log_p(made, scene, each.words), abs=1e-4)
            grams = [each.words[i : i + ngram] for i in range(len(prefix), len(each.words) - ngram + 1)]
            assert not ngram or len(grams) == len(set(grams))


def test_what_is_not_asked_changes_nothing(architecture: str) -> None:
    """A required word that the caption has anyway, a forbidden one that it would not say."""
    made = captioner(architecture, 1, eos=-1.0)
    (free,) = caption(made, SCENES[:1], DecodeOptions(beam=3))
    words = free.captions[0].words
    other = next(word for word in tiny.WORDS if word not in words)
    (same,) = caption(made, SCENES[:1], DecodeOptions(beam=3, require=(words[-1],), forbid=(other,)))
    assert same.captions[0].words == words or same.captions[0].score >= free.captions[0].score
    (without,) = caption(made, SCENES[:1], DecodeOptions(beam=3, forbid=(words[0],)))
    assert words[0] not in without.captions[0].words


@pytest.mark.parametrize(
    ("changes", "prefix", "told"),
    [
        ({"require": ("doog",)}, (), r"got doog; .*\(dog\)"),
        ({"forbid": ("zebra",)}, (), "got zebra; choose another"),
        ({"require": ("<eos>",)}, (), "got <eos>"),
        ({"require": ("a", "dog", "cat"), "max_length": 2}, (), "at most 2 words that must come, got 3"),
        ({"require": ("a", "dog", "cat"), "max_length": 4}, ("a", "red", "red"), "at most 1 .* after the 3 .* got 2"),
        ({"forbid": ("a",)}, ("a",), "begin with words that may come, got a"),
    ],
)
@pytest.mark.parametrize("method", ["beam", "greedy"])
def test_what_cannot_be_met_is_one_sentence(method: str, changes: dict, prefix: tuple, told: str) -> None:
    with pytest.raises(GliedError, match=told):
        caption(captioner("base"), SCENES[:1], DecodeOptions(method=method, **changes), prefix=prefix)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"groups": 2}, "multiple of groups"),
        ({"groups": 0}, "groups"),
        ({"groups": 2, "method": "greedy"}, "multiple of groups"),
        ({"groups": 3, "method": "sample"}, "method sample"),
        ({"require": ("a",), "method": "sample"}, "method sample"),
        ({"diversity": -1.0}, "diversity"),
        ({"diversity": float("nan")}, "diversity"),
        ({"require": ("a", "a")}, "each once"),
        ({"require": tuple(map(str, range(11)))}, "at most 10"),
        ({"require": ("a",), "forbid": ("a",)}, "both required and forbidden"),
    ],
)
def test_options_that_contradict_name_themselves(changes: dict, named: str) -> None:
    with pytest.raises(GliedError, match=named):
        DecodeOptions(**changes)


def test_no_caption_is_left_where_all_words_are_forbidden() -> None:
    made = captioner("glied", words=FIVE)
    with pytest.raises(GliedError, match="relax"):
        caption(made, [tiny.scene(words=FIVE)], DecodeOptions(forbid=FIVE, min_length=1))
    (empty,) = caption(made, [tiny.scene(words=FIVE)], DecodeOptions(forbid=FIVE))
    assert empty.captions[0].words == ()


@pytest.mark.parametrize("prefix", [(), ("red", "ball")])
def test_the_tree_of_samples_ends_in_the_samples(architecture: str, prefix: tuple[str, ...]) -> None:
    made = captioner(architecture, 1, eos=1.0)
    options = DecodeOptions(method="sample", n_best=6, top_p=0.9, seed=3, forbid=("a",), no_repeat_ngram=0)
    plain, others = caption(made, SCENES, options, prefix=prefix), 0
    for scene, untold, decoded in zip(SCENES, plain, caption(made, SCENES, options, True, prefix), strict=True):
        assert untold.captions == decoded.captions, "to trace a sample does not change it"
        history = decoded.history
        assert isinstance(history, BeamHistory)
        ended = {}
        for s, status in enumerate(history.status):
            assert all(np.diff(history.scores[s][np.isfinite(history.scores[s])]) <= 0)
            for c, fate in enumerate(status):
                words = tuple(history.prefix(s, c))
                if fate == "finished":
                    ended[words[:-1]] = history.scores[s, c]
                    continue
                assert (fate == "kept") == any(each.words[: s + 1] == words for each in decoded.captions)
                if fate == "dropped" and words[-1] != "<eos>":
                    others += 1
                    assert words[-1] != "a"
                    before = trace(made, scene, words[:-1])
                    row = dict(
                        zip(before.alternatives[-1], before.alternative_log_probabilities[-1].tolist(), strict=True)
                    )
                    if words[-1] in row:  # it is in the nucleus: those above it hold less than top_p of what may come
                        may = sum(np.exp(p) for word, p in row.items() if word != "a")
                        above = sum(np.exp(p) for word, p in row.items() if p > row[words[-1]] and word != "a")
                        assert above < 0.9 * (may + 1 - sum(np.exp(p) for p in row.values()))
        assert ended.keys() == {each.words for each in decoded.captions}
        for each in decoded.captions:
            assert each.log_probability == pytest.approx(ended[each.words], abs=1e-4)
    assert others


def test_python_users_get_one_caption_or_all(architecture: str) -> None:
    made = captioner(architecture, 3)

    class Nowhere:
        name, feature_dim = tiny.SOURCE, tiny.WIDTH

        def find_regions(self, image: Image.Image) -> Regions:
            raise NotImplementedError

    ours = api.Captioner(made, AttributeDetector(tiny.WORDS, tiny.WIDTH, tiny.SOURCE), Nowhere())
    (expected,) = caption(made, SCENES[:1], DecodeOptions(beam=3, groups=3, n_best=3))
    assert glied.find_captions(SCENES[0], ours, beam=3, groups=3, n_best=3) == expected.captions
    assert glied.caption(SCENES[0], ours, beam=3, groups=3) == expected.captions[0]
    assert "ball" in glied.caption(SCENES[0], ours, require=("ball",)).words
