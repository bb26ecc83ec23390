import sys
from pathlib import Path

# The suite imports by path (importlib mode), which leaves the helpers beside the tests unseen.
sys.path.insert(0, str(Path(__file__).parent))
