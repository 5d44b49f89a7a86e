"""Writes an image of this machine's Python, as `docker save` does, to the file that is named.

It stands for the image that the guide's commands take from a registry.
"""

import hashlib
import io
import json
import os
import subprocess
import sys
import sysconfig
import tarfile

LEFT_OUT = {"test", "dist-packages", "__pycache__"}


def python_layer():
    """The interpreter, its libraries, and its modules."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for link in "bin", "lib", "lib64":
            tar.add("/" + link, recursive=False)
        linked = subprocess.run(["ldd", "/usr/bin/python3"], capture_output=True, text=True, check=True).stdout
        for path in ["/usr/bin/python3", *(word for word in linked.split() if word.startswith("/"))]:
            # The directory itself: an entry must not lead over a link.
            place = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
            tar.add(os.path.realpath(path), place)
        is_kept = lambda entry: LEFT_OUT.isdisjoint(entry.name.split("/"))
        tar.add(sysconfig.get_path("stdlib"), filter=lambda entry: entry if is_kept(entry) else None)
    return data.getvalue()


def main(path):
    layer = python_layer()
    config = json.dumps({
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine],
        "os": "linux",
        "config": {"Cmd": ["python3"]},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]},
    })
    manifest = json.dumps([{"Config": "config.json", "RepoTags": ["python:3.12"], "Layers": ["layer.tar"]}])
    with tarfile.open(path, "w") as image:
        for name, content in ("config.json", config), ("manifest.json", manifest), ("layer.tar", layer):
            entry = tarfile.TarInfo(name)
            content = content if isinstance(content, bytes) else content.encode()
            entry.size = len(content)
            image.addfile(entry, io.BytesIO(content))


main(sys.argv[1])
