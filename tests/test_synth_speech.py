"""Synthetic speech, generated noises and their mixtures."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("espeakng_loader", reason='needs the speech synthesiser: pip install "shrinkspeech[demo]"')

from sample_models import synth_speech as synth

SENTENCE = "Open the window, my friend. The train leaves at nine."
CLEAR = [f"{language}+m3" for language in synth.LANGUAGES]


def _power(samples: np.ndarray) -> float:
    return float(np.mean(np.square(samples.astype(np.float64))))


@pytest.fixture(scope="module")
def mixtures() -> synth.SynthMixtures:
    return synth.SynthMixtures(seed=3, utterances=40)


def test_every_voice_sounds_different() -> None:
    voices = [f"{language}+m1" for language in synth.LANGUAGES] + [f"de+{name}" for name in synth.VARIANTS[1:]]
    audio = {synth.say("hotel radio banana", voice).samples.tobytes() for voice in voices}
    assert len(audio) == len(voices)


def test_rate_and_pitch_take_effect() -> None:
    slow, fast = (synth.say(SENTENCE, "en-us", rate=rate) for rate in (100, 250))
    assert len(slow.samples) > 1.5 * len(fast.samples)
    high = synth.say(SENTENCE, "en-us", rate=100, pitch=90)
    assert high.samples.tobytes() != slow.samples.tobytes()


@pytest.mark.parametrize("voice", [*CLEAR, "en-us+whisper", "fr+belinda", "en-us+klatt4"])
def test_segments_match_the_energy(voice: str) -> None:
    utterance = synth.say(SENTENCE, voice)
    mask = utterance.mask()
    assert utterance.samples.dtype == np.float32
    assert len(utterance.segments) >= 3  # the comma and the full stop
    assert utterance.segments[0][0] == 0.0
    assert utterance.segments[-1][1] == pytest.approx(len(utterance.samples) / synth.SAMPLE_RATE, abs=2e-4)
    edges = np.ravel(utterance.segments)
    assert (np.diff(edges) > 0.0).all()
    assert _power(utterance.samples[~mask]) < 1e-3 * _power(utterance.samples[mask])
    assert (np.diff(edges)[1::2] >= synth.MIN_PAUSE - 1e-3).all()


def test_segment_edges_are_where_the_sound_is() -> None:
    """The first and last 30 ms of every segment sound, so that no pause is labelled as speech."""
    utterance = synth.say(SENTENCE, "en-us")
    for start, end in utterance.segments:
        segment = utterance.samples[round(start * synth.SAMPLE_RATE) : round(end * synth.SAMPLE_RATE)]
        assert np.abs(segment[:480]).max() > 1e-3
        assert np.abs(segment[-480:]).max() > 1e-3


def test_speech_does_not_depend_on_earlier_speech() -> None:
    first = synth.say(SENTENCE, "en-us+m3")
    synth.say("Guten Tag", "de+whisper", rate=300, pitch=90)
    again = synth.say(SENTENCE, "en-us+m3")
    assert again.segments == first.segments
    np.testing.assert_array_equal(again.samples, first.samples)


def test_a_fresh_process_says_the_same() -> None:
    code = (
        "from hashlib import sha256; from sample_models.synth_speech import corpus;"
        "print(sha256(b''.join(u.samples.tobytes() for u in corpus(5, 3))).hexdigest())"
    )
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in "ab"]
    assert runs[0].stdout == runs[1].stdout != ""


def test_corpus_is_seeded_and_splits_are_disjoint() -> None:
    one, same, other = (synth.corpus(seed, 6) for seed in (0, 0, 1))
    assert [u.text for u in one] == [u.text for u in same] != [u.text for u in other]
    assert all(np.array_equal(a.samples, b.samples) for a, b in zip(one, same, strict=True))
    splits = [synth.corpus(0, 30, split) for split in ("train", "val", "test")]
    variants = [{u.voice.split("+")[1] for u in split} for split in splits]
    words = [set(" ".join(u.text for u in split).replace(",", "").split()) for split in splits]
    for sets in (variants, words):
        assert all(sets)
        assert not (sets[0] & sets[1])
        assert not (sets[0] & sets[2])
        assert not (sets[1] & sets[2])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("", "en"), "nothing to say"),
        (("hello", "nowhere"), "unknown voice 'nowhere'"),
        (("hello", "en+nobody"), "unknown voice variant 'nobody'"),
        (("hello", "en", 20), "rate must be"),
        (("hello", "en", 175, 100), "pitch 0 to 99"),
    ],
)
def test_bad_requests_say_why(arguments: tuple[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        synth.say(*arguments)


def test_missing_wheel_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "shrinkspeech\[demo\]"'):
        synth.say("hello", "en")


def test_unknown_split_is_refused() -> None:
    with pytest.raises(ValueError, match="train, val or test"):
        synth.corpus(0, 1, "dev")


@pytest.mark.parametrize("kind", synth.NOISES)
@pytest.mark.parametrize("seed", range(5))
def test_noise_is_seeded_finite_and_of_unit_power(kind: str, seed: int) -> None:
    wave = synth.noise(seed, 16_001, kind)
    assert wave.shape == (16_001,)
    assert wave.dtype == np.float32
    assert np.isfinite(wave).all()
    assert _power(wave) == pytest.approx(1.0, rel=1e-3)
    np.testing.assert_array_equal(wave, synth.noise(seed, 16_001, kind))
    assert not np.array_equal(wave, synth.noise(seed + 1, 16_001, kind))


def test_noise_colours_have_their_slopes() -> None:
    for kind, slope in (("white", 0.0), ("pink", -3.0), ("brown", -6.0)):
        spectrum = np.abs(np.fft.rfft(synth.noise(0, 160_000, kind))) ** 2  # bins of 0.1 Hz
        octaves = 10.0 * np.log10([spectrum[2_000:4_000].mean(), spectrum[32_000:64_000].mean()])
        assert (octaves[1] - octaves[0]) / 4 == pytest.approx(slope, abs=0.3)


def test_unknown_noise_is_refused() -> None:
    with pytest.raises(ValueError, match="'purple'"):
        synth.noise(0, 1_000, "purple")


def test_batches_have_the_promised_shapes(mixtures: synth.SynthMixtures) -> None:
    wave, labels = mixtures.batch(4)
    assert wave.shape == (4, 48_000)
    assert labels.shape == (4, 301)
    assert str(wave.dtype) == str(labels.dtype) == "torch.float32"
    assert wave.isfinite().all()
    assert wave.abs().max() <= 1.0 + 1e-5
    assert set(labels.flatten().tolist()) <= {0.0, 1.0}
    assert not wave.equal(mixtures.batch(4)[0])


def test_half_of_the_frames_are_speech(mixtures: synth.SynthMixtures) -> None:
    assert 0.42 < float(mixtures.batch(300)[1].mean()) < 0.6


def test_fixed_mixtures_are_the_same_on_every_call(mixtures: synth.SynthMixtures) -> None:
    first = mixtures.fixed(5, batch_size=2)
    mixtures.batch(1)
    assert [len(wave) for wave, _ in first] == [2, 2, 1]
    twin = synth.SynthMixtures(seed=3, utterances=40).fixed(5, batch_size=2)
    for (wave, labels), *others in zip(first, mixtures.fixed(5, batch_size=2), twin, strict=True):
        assert all(wave.equal(w) and labels.equal(target) for w, target in others)


def test_mixtures_have_their_signal_to_noise_ratio(mixtures: synth.SynthMixtures) -> None:
    """Measured from the labels alone, whose 10 ms steps cut the speech a little differently."""
    rng, seen = np.random.default_rng(0), []
    for _ in range(60):
        speech, interference, labels, snr = mixtures.mixture(rng)
        if labels.sum() < 50:  # too short to be measured in steps of 10 ms
            continue
        mask = np.repeat(labels, synth.HOP)[80:][: len(speech)] > 0
        measured = 10.0 * np.log10(_power(speech[mask]) / _power(interference))
        assert measured == pytest.approx(snr, abs=0.5)
        assert _power(speech[~mask]) < 0.05 * _power(speech[mask])
        seen.append(snr)
    assert min(seen) >= -5.0
    assert max(seen) <= 20.0
    assert np.ptp(seen) > 15.0
