"""A training that goes on: its loss is a function of the step and of all steps before. Arguments: steps, and seconds for each."""

import os
import sys
import time

back = float(os.environ.get("GOES_BACK", 0)) * (os.environ["NORIA_ATTEMPT"] != "1")
if back:  # A node whose clock is wrong.
    now = time.time
    time.time = lambda: now() - back

import noria  # noqa: E402  # After the clock.

steps, pause = int(sys.argv[1]), float(sys.argv[2])
every = float(sys.argv[3]) if len(sys.argv) > 3 else 0.5
state = noria.resume() or {"step": 0, "w": 1}
w = state["w"]
print(f"try {os.environ['NORIA_ATTEMPT']} goes on from step {state['step']} on {os.uname().nodename}", flush=True)
for step in range(state["step"], steps):
    w = (w * 1103515245 + 12345 + step) % 2147483648
    time.sleep(pause)
    if os.environ.get("RANK", "0") == "0":
        noria.log(loss=w / 2147483648, step=step)
    noria.checkpoint({"step": step + 1, "w": w}, step=step, every=every)
print("done", flush=True)
