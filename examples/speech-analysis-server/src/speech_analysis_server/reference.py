"""Make a token's reference pitch file from a model recording.

python -m speech_analysis_server.reference RECORDING --pitch-out reference.json
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from headrace_analysis import AnalysisError
from speech_analysis_server.audio import decode
from speech_analysis_server.pitch import LEAST_VOICED_FRAMES, extract_pitch
from speech_analysis_server.reference_pitch import write_pitch
from speech_analysis_server.values import Warnings

_LONGEST_SECONDS = 600.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 0, or 1 with the reason on standard error."""
    parser = argparse.ArgumentParser(description="Make a reference pitch file from a recording.")
    parser.add_argument("recording", type=Path, help="the model's recording")
    parser.add_argument("--pitch-out", type=Path, required=True, help="where to write the JSON")
    options = parser.parse_args(arguments)
    try:
        recording = decode(options.recording, max_seconds=_LONGEST_SECONDS, warnings=Warnings())
    except AnalysisError as error:
        sys.stderr.write(f"{options.recording}: {error.message}\n")
        return 1
    contour = extract_pitch(recording)
    if contour.voiced_frames < LEAST_VOICED_FRAMES:
        sys.stderr.write(f"{options.recording}: no voiced speech found\n")
        return 1
    document = write_pitch(contour, duration=recording.duration)
    options.pitch_out.write_text(json.dumps(document, allow_nan=False) + "\n", encoding="utf-8")
    sys.stdout.write(f"{options.pitch_out}: {contour.voiced_frames} voiced frames\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
