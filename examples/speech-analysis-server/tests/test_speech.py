from pathlib import Path

import numpy as np
import pytest
from speech_signals import RECORDINGS, noise, silence, voice, write

from speech_analysis_server.audio import Recording, decode
from speech_analysis_server.intensity import extract_intensity, intensity_statistics, speaking_rate
from speech_analysis_server.pitch import extract_pitch, pitch_statistics
from speech_analysis_server.values import Warnings


def recorded(samples: np.ndarray, rate: int = 16_000) -> Recording:
    return Recording(samples, rate, rate, 1, "test")


@pytest.mark.parametrize("hertz", [80.0, 110.0, 200.0, 320.0, 450.0])
@pytest.mark.parametrize("rate", [8_000, 16_000])
def test_a_steady_tone_gives_its_pitch(hertz: float, rate: int) -> None:
    contour = extract_pitch(recorded(voice(hertz, rate=rate), rate))
    statistics = pitch_statistics(contour)
    assert statistics is not None
    assert statistics["median_hz"] == pytest.approx(hertz, rel=0.01)
    assert statistics["range_semitones"] < 0.2
    assert statistics["voiced_fraction"] > 0.9


def test_a_glide_is_followed_within_one_per_cent() -> None:
    contour = extract_pitch(recorded(voice(np.array([150.0, 250.0]), seconds=2)))
    truth = 150 + 100 * contour.times / 2
    voiced = contour.voiced
    assert voiced.mean() > 0.95
    assert np.abs(contour.frequencies[voiced] / truth[voiced] - 1).max() < 0.01
    statistics = pitch_statistics(contour)
    assert statistics is not None
    assert statistics["slope_semitones_per_second"] == pytest.approx(
        12 * np.log2(250 / 150) / 2, rel=0.03
    )


def test_the_search_range_is_fitted_to_the_speaker() -> None:
    contour = extract_pitch(recorded(voice(200.0)))
    assert contour.floor == pytest.approx(150, rel=0.02)
    assert contour.ceiling == pytest.approx(300, rel=0.02)


@pytest.mark.parametrize("samples", [silence(1.0), noise(1.0)], ids=["silence", "noise"])
def test_what_is_no_voice_has_no_pitch(samples: np.ndarray) -> None:
    statistics = pitch_statistics(extract_pitch(recorded(samples)))
    assert statistics is None or statistics["voiced_fraction"] < 0.1


def test_intensity_falls_by_20_db_for_a_tenth_of_the_amplitude() -> None:
    loud = intensity_statistics(extract_intensity(recorded(voice(200.0))))
    soft = intensity_statistics(extract_intensity(recorded(0.1 * voice(200.0))))
    assert loud["mean_db"] - soft["mean_db"] == pytest.approx(20, abs=0.05)


def test_syllables_and_pauses_of_known_bursts() -> None:
    burst = voice(150.0, seconds=0.2) * np.hanning(3_200)
    gap, pause = silence(0.1), silence(0.6)
    samples = np.concatenate([gap, burst, gap, burst, gap, burst, pause, burst, gap, burst, gap])
    recording = recorded(samples)
    rate = speaking_rate(extract_intensity(recording), extract_pitch(recording))
    assert len(rate.nuclei) == 5
    assert len(rate.pauses) == 1
    start, end = rate.pauses[0]
    assert start == pytest.approx(0.9, abs=0.1)
    assert end == pytest.approx(1.5, abs=0.1)
    summary = rate.summary()
    assert summary["articulation_rate"] > summary["syllables_per_second"]


def test_silence_has_no_syllables() -> None:
    recording = recorded(silence(1.0))
    intensity = extract_intensity(recording)
    assert intensity.is_silent
    summary = speaking_rate(intensity, extract_pitch(recording)).summary()
    assert (summary["syllables"], summary["syllables_per_second"]) == (0, None)


def test_a_real_sentence() -> None:
    recording = decode(RECORDINGS / "mary.wav", max_seconds=60, warnings=Warnings())
    statistics = pitch_statistics(extract_pitch(recording))
    assert statistics is not None
    # The TextGrid's tier `pitch` gives 85 to 120 Hz, measured by hand.
    assert 85 < statistics["median_hz"] < 120
    assert statistics["slope_semitones_per_second"] < 0
    rate = speaking_rate(extract_intensity(recording), extract_pitch(recording))
    assert 3 <= len(rate.nuclei) <= 7  # "Mary rolled the barrel" has six syllables
    assert rate.speech is not None
    assert rate.speech[0] == pytest.approx(0.315, abs=0.1)
    assert rate.speech[1] == pytest.approx(1.518, abs=0.12)


def test_the_rate_of_the_file_does_not_matter(tmp_path: Path) -> None:
    medians = []
    for rate in (8_000, 16_000, 48_000):
        path = write(tmp_path / f"{rate}.wav", voice(180.0, rate=rate), rate=rate)
        recording = decode(path, max_seconds=60, warnings=Warnings())
        statistics = pitch_statistics(extract_pitch(recording))
        assert statistics is not None
        medians.append(statistics["median_hz"])
    assert medians == pytest.approx([180] * 3, rel=0.01)
