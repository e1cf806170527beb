"""AWS's place before a rotation function: calls the handler in the file argv[1] with each event.

An event is a line of JSON on standard input. Standard output gets a line for each: nothing, or why the
function has failed.
"""

import importlib.util
import json
import sys

spec = importlib.util.spec_from_file_location("lambda_function", sys.argv[1])
function = importlib.util.module_from_spec(spec)
spec.loader.exec_module(function)

for event in sys.stdin:
    try:
        function.lambda_handler(json.loads(event), None)
        answer = ""
    except Exception as error:
        answer = " ".join(f"{type(error).__name__}: {error}".split())
    print(answer, flush=True)
