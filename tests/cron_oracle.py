"""An independent reading of AWS's cron expressions, to compare secretlink's with: aws-croniter.

Reads a line for each question, `AFTER COUNT EXPRESSION`, and answers each with a line: the next COUNT times after
AFTER, in seconds since 1970, or what is wrong with the expression.
"""

import sys
from datetime import datetime, timezone

from aws_croniter import AwsCroniter

schedules = {}

for line in sys.stdin:
    after, count, expression = line.rstrip("\n").split(" ", 2)
    try:
        if expression not in schedules:
            schedules[expression] = AwsCroniter(expression)
        time, times = datetime.fromtimestamp(int(after), timezone.utc), []
        for _ in range(int(count)):
            time = schedules[expression].occurrence(time).next()
            if time is None:
                break
            times.append(str(int(time.timestamp())))
        print(" ".join(times))
    except Exception as error:
        print("error", type(error).__name__, error)
    sys.stdout.flush()
