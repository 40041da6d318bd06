"""Decoding against brute force, against full passes, and against its own options."""

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st

from glied.captions import BeamHistory, Caption, Decoded, DecodeOptions, rank
from glied.checkpoint import Checkpoint
from glied.decode import caption
from glied.errors import GliedError
from glied.replay import trace
from glied.scene import Scene
from glied.vocabulary import BOS, EOS, PAD, SPECIAL, UNK

FIVE = ("a", "dog", "cat", "runs", "sits")
SCENES = [tiny.scene(5, 4, 1), tiny.scene(3, 6, 2), tiny.scene(1, 1, 3)]
FREE = DecodeOptions(no_repeat_ngram=0, length_penalty=0.0)


def captioner(architecture: str, seed: int = 0, eos: float = 0.0, **changes) -> Checkpoint:
    """A random captioner whose EOS is `eos` more likely than it came out."""
    made = tiny.checkpoint(architecture, seed=seed, **changes)
    with torch.no_grad():
        made.model.bias[EOS] += eos
    return made


def assert_same(ours: Decoded, theirs: Decoded) -> None:
    assert [c.words for c in ours.captions] == [c.words for c in theirs.captions]
    for name in ("log_probability", "score"):
        np.testing.assert_allclose(
            [getattr(c, name) for c in ours.captions], [getattr(c, name) for c in theirs.captions], atol=1e-4
        )


def grams(words: tuple[str, ...], n: int) -> Counter:
    return Counter(words[i : i + n] for i in range(len(words) - n + 1))


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_beam_one_is_greedy(architecture: str, alpha: float) -> None:
    for seed in range(4):
        made = captioner(architecture, seed, eos=1.0)
        greedy = caption(made, SCENES, replace(FREE, method="greedy", beam=7, length_penalty=alpha))
        one = caption(made, SCENES, replace(FREE, beam=1, length_penalty=alpha))
        for scene, a, b in zip(SCENES, greedy, one, strict=True):
            assert_same(a, b)
            words: list[str] = []
            for _ in range(made.model.config.max_length):  # the most probable word, again and again
                replayed = trace(made, scene, words)
                row = replayed.alternatives[-1]
                word = next(w for w in row if w not in ("<pad>", "<bos>", "<unk>"))
                if word == "<eos>":
                    break
                words.append(word)
            assert a.captions[0].words == tuple(words)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_wide_beam_equals_brute_force(architecture: str, alpha: float) -> None:
    made = captioner(architecture, 1, words=FIVE)
    scene = tiny.scene(4, 3, words=FIVE)
    every = [words for n in range(4) for words in itertools.product(FIVE, repeat=n)]
    options = replace(FREE, length_penalty=alpha, max_length=3, n_best=1)
    # 100 hypotheses are the most that options allow; all 156 captions need more
    object.__setattr__(options, "beam", len(every))
    object.__setattr__(options, "n_best", len(every))
    found = caption(made, [scene], options)[0].captions
    expected = []
    for words in every:
        log_p = float(trace(made, scene, words).log_probabilities.sum())
        expected.append((log_p / ((5 + len(words) + 1) / 6) ** alpha, log_p, words))
    expected.sort(key=lambda e: -e[0])
    assert [c.words for c in found] == [words for _, _, words in expected]
    np.testing.assert_allclose([c.score for c in found], [score for score, _, _ in expected], atol=1e-4)
    np.testing.assert_allclose([c.log_probability for c in found], [p for _, p, _ in expected], atol=1e-4)
    several = caption(made, [scene], replace(FREE, length_penalty=alpha, max_length=3, beam=100, n_best=7))[0].captions
    assert [c.words for c in several] == [words for _, _, words in expected[:7]]


@pytest.mark.parametrize("method", ["beam", "sample"])
def test_scores_are_those_of_a_full_pass(architecture: str, method: str) -> None:
    made = captioner(architecture, 2, eos=1.0)
    options = DecodeOptions(method=method, beam=4, n_best=4, seed=5, temperature=1.3, length_penalty=0.7)
    for scene, decoded in zip(SCENES, caption(made, SCENES, options), strict=True):
        assert [c.score for c in decoded.captions] == sorted((c.score for c in decoded.captions), reverse=True)
        for c in decoded.captions:
            log_p = float(trace(made, scene, c.words).log_probabilities.sum())
            assert c.log_probability == pytest.approx(log_p, abs=1e-4)
            assert c.score == pytest.approx(log_p / ((5 + len(c.words) + 1) / 6) ** 0.7, abs=1e-4)
            assert c.score == pytest.approx(rank(c.log_probability, len(c.words) + 1, 0.7), abs=1e-4)


@pytest.mark.parametrize("method", ["beam", "greedy", "sample"])
def test_special_words_are_never_produced(architecture: str, method: str) -> None:
    made = captioner(architecture)
    with torch.no_grad():
        made.model.bias[[PAD, BOS, UNK]] += 20
    for decoded in caption(
        made, SCENES, DecodeOptions(method=method, n_best=1 if method == "greedy" else 3, min_length=3)
    ):
        for c in decoded.captions:
            assert not set(c.words) & set(SPECIAL)
            assert len(c.words) >= 3


@given(
    method=st.sampled_from(["beam", "greedy", "sample"]),
    seed=st.integers(0, 5),
    lengths=st.tuples(st.integers(0, 6), st.integers(1, 6)).map(sorted),
    ngram=st.integers(0, 4),
    eos=st.sampled_from([-4.0, 0.0, 4.0]),
)
def test_lengths_and_ngrams_are_respected(method: str, seed: int, lengths: list[int], ngram: int, eos: float) -> None:
    made = captioner("glied", seed, eos)
    low, high = lengths[0], max(lengths[1], 1)
    n = 1 if method == "greedy" else 3
    options = DecodeOptions(method=method, min_length=low, max_length=high, no_repeat_ngram=ngram, n_best=n, seed=seed)
    for decoded in caption(made, SCENES, options):
        assert len(decoded.captions) == n or method == "beam"
        for c in decoded.captions:
            assert low <= len(c.words) <= high
            if ngram:
                assert max(grams(c.words, ngram).values(), default=1) == 1


def test_without_a_limit_ngrams_do_repeat() -> None:
    """What the test above forbids does happen where it is allowed."""
    made = captioner("glied", eos=-20)
    longest = made.model.config.max_length
    for ngram, repeated in ((0, True), (1, False)):
        (decoded,) = caption(made, SCENES[:1], DecodeOptions(no_repeat_ngram=ngram))
        (words,) = {c.words for c in decoded.captions}
        assert len(words) == longest
        assert (max(grams(words, 1).values()) > 1) is repeated


@pytest.mark.parametrize("history", [False, True])
def test_batch_equals_one_by_one(architecture: str, history: bool) -> None:
    for seed, eos in ((0, 0.0), (1, 2.0), (2, -1.0)):
        made = captioner(architecture, seed, eos)
        options = DecodeOptions(beam=3, n_best=3)
        for scene, together in zip(SCENES, caption(made, SCENES, options, history), strict=True):
            (alone,) = caption(made, [scene], options, history)
            assert_same(together, alone)
            if history:
                assert together.history.words == alone.history.words
                assert together.history.status == alone.history.status
                np.testing.assert_array_equal(together.history.parents, alone.history.parents)
                np.testing.assert_allclose(together.history.scores, alone.history.scores, atol=1e-4)
            else:
                assert together.history is None


def test_sampling_the_best_word_is_greedy(architecture: str) -> None:
    made = captioner(architecture, 3)
    greedy = caption(made, SCENES, replace(FREE, method="greedy"))
    for cut in ({"top_k": 1}, {"top_p": 0.001}, {"temperature": 0.01}):
        for a, b in zip(greedy, caption(made, SCENES, replace(FREE, method="sample", **cut)), strict=True):
            assert_same(a, b)


def first_words(made: Checkpoint, **options) -> Counter:
    """First words of 4 x 100 samples."""
    found = Counter()
    for seed in range(4):
        asked = DecodeOptions(method="sample", n_best=100, seed=seed, max_length=1, min_length=1, **options)
        found.update(c.words[0] for c in caption(made, SCENES[:1], asked)[0].captions)
    return found


def test_top_k_and_top_p_cut_the_tail() -> None:
    made = captioner("glied", 1)
    replayed = trace(made, SCENES[0], [])
    pairs = zip(replayed.alternatives[0], replayed.alternative_log_probabilities[0], strict=True)
    p = {w: float(np.exp(v)) for w, v in pairs if w not in SPECIAL}
    ordered = sorted(p, key=lambda w: -p[w])
    assert set(first_words(made, top_k=3)) == set(ordered[:3])
    assert len(first_words(made)) > 6
    share = (p[ordered[0]] + p[ordered[1]] / 2) / sum(p.values())  # the second word is needed, the third is not
    assert set(first_words(made, top_p=share)) == set(ordered[:2])


def test_temperature_flattens() -> None:
    made = captioner("glied", 1)
    cold, warm, hot = (first_words(made, temperature=t).most_common(1)[0][1] for t in (0.3, 1.0, 10.0))
    assert cold > warm > hot


def test_same_seed_same_samples(architecture: str) -> None:
    made = captioner(architecture)
    options = DecodeOptions(method="sample", n_best=5, seed=11)
    before = torch.get_rng_state()
    assert caption(made, SCENES, options) == caption(made, SCENES, options)
    assert torch.equal(before, torch.get_rng_state()), "the program's own random numbers are left alone"
    assert caption(made, SCENES, options) != caption(made, SCENES, replace(options, seed=12))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("beam", [1, 5])
def test_history_replays_to_the_captions(architecture: str, seed: int, beam: int) -> None:
    made = captioner(architecture, seed, eos=1.0)
    options = DecodeOptions(beam=beam, n_best=beam, no_repeat_ngram=2)
    for scene, decoded in zip(SCENES, caption(made, SCENES, options, history=True), strict=True):
        history = decoded.history
        assert isinstance(history, BeamHistory)
        ended = {}
        for s, status in enumerate(history.status):
            assert status.count("kept") <= beam
            assert all(np.diff(history.scores[s][np.isfinite(history.scores[s])]) <= 0)
            assert len(history.words[s]) == len(status) <= history.parents.shape[1]
            for c, name in enumerate(status):
                if not np.isfinite(history.scores[s, c]):
                    assert name == "dropped"
                    continue
                words = history.prefix(s, c)
                assert len(words) == s + 1
                log_p = trace(made, scene, words[: s + (words[-1] != "<eos>")]).log_probabilities[: s + 1].sum()
                assert history.scores[s, c] == pytest.approx(log_p, abs=1e-4)
                assert (name == "finished") <= (words[-1] == "<eos>")
                if name == "finished":
                    ended[tuple(words[:-1])] = history.scores[s, c]
        assert {c.words for c in decoded.captions} <= ended.keys()
        assert len(decoded.captions) == min(beam, len(ended))
        for c in decoded.captions:
            assert c.log_probability == pytest.approx(ended[c.words], abs=1e-6)
        best = sorted(ended, key=lambda w: -rank(ended[w], len(w) + 1, options.length_penalty))[:beam]
        assert [c.words for c in decoded.captions] == best


def test_maximum_length_closes_the_caption(architecture: str) -> None:
    made = captioner(architecture, eos=-30)
    (decoded,) = caption(made, SCENES[:1], DecodeOptions(max_length=5))
    assert len(decoded.captions[0].words) == 5
    log_p = trace(made, SCENES[0], decoded.captions[0].words).log_probabilities
    assert log_p[-1] < -10  # EOS was not likely, and is counted
    assert decoded.captions[0].log_probability == pytest.approx(float(log_p.sum()), abs=1e-3)
    longer = caption(made, SCENES[:1], DecodeOptions(max_length=30))  # beyond what the model was made for
    assert len(longer[0].captions[0].words) == 30


@pytest.mark.parametrize("method", ["beam", "greedy", "sample"])
def test_impossible_constraints_are_one_sentence(method: str) -> None:
    made = tiny.checkpoint("glied", FIVE)
    options = DecodeOptions(method=method, min_length=7, max_length=8, no_repeat_ngram=1)
    with pytest.raises(GliedError, match="relax"):
        caption(made, [tiny.scene(words=FIVE)], options)
    with pytest.raises(GliedError, match="relax"):  # the model's own limit is 8 words
        caption(made, [tiny.scene(words=FIVE)], DecodeOptions(method=method, min_length=9))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"beam": 0}, "beam"),
        ({"beam": 101}, "beam"),
        ({"n_best": 4}, "n_best"),
        ({"min_length": -1}, "min_length"),
        ({"max_length": 0}, "max_length"),
        ({"max_length": 101}, "max_length"),
        ({"min_length": 5, "max_length": 4}, "max_length"),
        ({"no_repeat_ngram": -1}, "no_repeat_ngram"),
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_k": -1}, "top_k"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.5}, "top_p"),
        ({"length_penalty": 6.0}, "length_penalty"),
        ({"method": "greedy", "n_best": 3}, "n_best"),
    ],
)
def test_bad_options_name_themselves(changes: dict, named: str) -> None:
    with pytest.raises(GliedError, match=named):
        DecodeOptions(**changes)


def test_scene_of_another_source_is_refused(architecture: str) -> None:
    made = captioner(architecture)
    with pytest.raises(GliedError, match=r"other-2.*checkpoint"):
        caption(made, [SCENES[0], tiny.scene(source="other-2")])


def test_text_of_a_caption() -> None:
    assert Caption(("a", "dog"), -1.0, -0.9).text == "a dog"
    assert Caption((), -1.0, -0.9).text == ""


def test_attributes_outside_the_vocabulary_are_left_out(architecture: str) -> None:
    made = captioner(architecture)
    scene = tiny.scene(5, 4, words=(*tiny.WORDS[:3], "zeppelin"))
    kept = [i for i, w in enumerate(scene.attributes.words) if w != "zeppelin"]
    words = tuple(scene.attributes.words[i] for i in kept)
    known = replace(
        scene.attributes, words=words, scores=scene.attributes.scores[kept], by_region=scene.attributes.by_region[kept]
    )
    assert_same(caption(made, [scene])[0], caption(made, [replace(scene, attributes=known)])[0])


def test_photograph_that_gets_stuck_leaves_the_others_alone() -> None:
    """With every word at most once, five words run out before the model's eight; EOS is never likely."""
    made = tiny.checkpoint("glied", FIVE)
    with torch.no_grad():
        made.model.bias[EOS] -= 6
    scenes = [tiny.scene(5, 4, seed, FIVE) for seed in range(4)]
    options = DecodeOptions(no_repeat_ngram=1, beam=4, n_best=4)
    for scene, together in zip(scenes, caption(made, scenes, options, history=True), strict=True):
        (alone,) = caption(made, [scene], options, history=True)
        assert_same(together, alone)
        assert together.history.words == alone.history.words
        assert together.history.status == alone.history.status


def search_to_the_end(made: Checkpoint, scene: Scene, options: DecodeOptions, words: Sequence[str]) -> list[tuple]:
    """Beam search by its definition, one replay for each hypothesis, to the longest length: (score, words) of all
    captions that finished, best first."""
    assert options.max_length
    live: list[tuple[float, tuple[str, ...]]] = [(0.0, ())]
    finished: list[tuple[float, tuple[str, ...]]] = []
    for step in range(options.max_length + 1):
        grown = []
        for log_p, said in live:
            replayed = trace(made, scene, said)
            row = zip(replayed.alternatives[-1], replayed.alternative_log_probabilities[-1].tolist(), strict=True)
            assert len(replayed.alternatives[-1]) == len(words) + 1  # all words, and the end
            grown += [(log_p + p, (*said, w)) for w, p in row if step < options.max_length or w == "<eos>"]
        grown.sort(key=lambda each: -each[0])
        ended = [(p, said) for p, said in grown[: options.beam] if said[-1] == "<eos>"]
        finished += [(rank(p, len(said), options.length_penalty), said[:-1]) for p, said in ended]
        live = [(p, said) for p, said in grown if said[-1] != "<eos>"][: options.beam]
    return sorted(finished, key=lambda each: -each[0])


@pytest.mark.parametrize("alpha", [-1.0, 0.0, 1.0, 3.0])
@pytest.mark.parametrize("n_best", [1, 2])
def test_the_search_ends_only_when_nothing_better_can_come(architecture: str, alpha: float, n_best: int) -> None:
    """Its captions are those of a search to the longest length, in which many more finish."""
    earlier = 0
    for seed in range(6):
        made = captioner(architecture, seed, eos=1.0, words=FIVE)
        scene = tiny.scene(4, 3, seed, words=FIVE)
        options = replace(FREE, length_penalty=alpha, max_length=8, beam=2, n_best=n_best)
        (found,) = caption(made, [scene], options, history=True)
        expected = search_to_the_end(made, scene, options, FIVE)[:n_best]
        assert [c.words for c in found.captions] == [words for _, words in expected]
        np.testing.assert_allclose([c.score for c in found.captions], [score for score, _ in expected], atol=1e-4)
        assert isinstance(found.history, BeamHistory)
        earlier += len(found.history.words) < 9
    if alpha < 3:  # at 3 a longer caption can always win
        assert earlier, "some end before the longest length"


@pytest.mark.parametrize("architecture", ["base", "glied"])
def test_a_prefix_is_said_and_costs_what_it_costs(architecture: str) -> None:
    made = captioner(architecture)
    free = caption(made, SCENES[:1], DecodeOptions(beam=2))[0].captions[0].words
    other = next(word for word in tiny.WORDS if word != free[0])
    for prefix in ((other,), (other, other, other), tuple(free[:1])):
        (found,) = caption(made, SCENES[:1], DecodeOptions(beam=2, n_best=2), True, prefix)
        assert isinstance(found.history, BeamHistory)
        for each in found.captions:
            assert each.words[: len(prefix)] == prefix
            whole = trace(made, SCENES[0], each.words).log_probabilities.sum()
            assert each.log_probability == pytest.approx(whole, abs=1e-4)
    assert found.captions[0].words == free, "its own first word changes nothing"


@pytest.mark.parametrize("method", ["beam", "greedy", "sample"])
def test_every_method_begins_with_the_prefix(architecture: str, method: str) -> None:
    made = captioner(architecture, 1, eos=1.0)
    prefix = ("ball", "ball", "ball")
    n = 1 if method == "greedy" else 3
    options = DecodeOptions(method=method, n_best=n, no_repeat_ngram=1, length_penalty=0.0)
    endings = set()
    for scene, decoded in zip(SCENES, caption(made, SCENES, options, prefix=prefix), strict=True):
        assert len(decoded.captions) == n
        for each in decoded.captions:
            assert each.words[:3] == prefix
            assert each.log_probability == pytest.approx(
                trace(made, scene, each.words).log_probabilities.sum(), abs=1e-4
            )
            endings.add(each.words[3:])
    assert len(endings) > 1, "the search goes on after the prefix"
    whole = ("ball",) * made.model.config.max_length
    assert caption(made, SCENES[:1], options, prefix=whole)[0].captions[0].words == whole


@pytest.mark.parametrize("prefix", [("<eos>",), ("zebra",), ("a",) * 50])
def test_a_prefix_that_cannot_be_is_one_sentence(prefix: tuple[str, ...]) -> None:
    with pytest.raises(GliedError, match="Expected"):
        caption(captioner("base"), SCENES[:1], prefix=prefix)
