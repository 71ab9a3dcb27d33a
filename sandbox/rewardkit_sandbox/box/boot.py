"""The first thing that runs in the box: takes the agent's sources and configuration from the host and hands over.

Given to `python3 -c` as text. Its one argument is the path of the host's socket, or the number of an inherited one.
"""

import json
import socket
import sys
import types

if sys.argv[1].isdigit():
    connection = socket.socket(fileno=int(sys.argv[1]))
else:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.connect(sys.argv[1])
received = socket.recv_fds(connection, 16, 1)[1]
with open(received[0]) as file:
    file.seek(0)
    bundle = json.load(file)
sys.modules["rewardkit_box"] = types.ModuleType("rewardkit_box")
for name, source in bundle["sources"].items():
    module = types.ModuleType(f"rewardkit_box.{name}")
    sys.modules[module.__name__] = module
    setattr(sys.modules["rewardkit_box"], name, module)
    exec(compile(source, f"<rewardkit {name}>", "exec"), module.__dict__)
module.main(connection, bundle["config"])
