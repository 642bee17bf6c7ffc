import sys

import noria

loaded = noria.run(".", "load", {"count": 6})
again = noria.run(".", "load", {"count": 6})
print("cached", loaded.cached, again.cached)
noria.log(rate=float(sys.argv[1]), same=float(loaded.run_id == again.run_id))
