"""Runs the collector in a process of its own, for LD_LIBRARY_PATH counts only before a process starts.

Each line on stdin asks for one scrape; the answer is one line of JSON: {"series": value} or {"error": class}.
"""

import json
import sys

from aiops.errors import AiopsError
from collectors.nvml import NvmlCollector


def main():
    collector = NvmlCollector.from_settings({}, "test")
    for _ in sys.stdin:
        try:
            batch = collector.collect(100.0)
            answer = {str(key): value for key, value in zip(batch.keys, batch.values.tolist(), strict=True)}
        except AiopsError as error:
            answer = {"error": type(error).__name__}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
