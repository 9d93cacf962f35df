"""Tell Edgeloop about a push: installed beside a git repository by `edgeloop hook install`, called by its hook.

Reads ``old new ref`` lines, sends one signed GitHub-style push webhook a branch, and shows the pusher what became of
it. Never fails the push. Needs nothing but a Python 3.8 standard library: the machine may have no Edgeloop at all.
"""

import getpass
import hashlib
import hmac
import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid

TIMEOUT_S = 10
PAUSES_S = (0.5, 1.5, 3)
"""Between attempts: together longer than a webhook service that was killed takes to be back."""
NOT_TOLD = "NOT told about this push (the push itself is done): "
LOCAL = ("127.0.0.1", "localhost", "::1")


def main() -> None:
    """Read the updates from stdin."""
    directory = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - without pathlib it starts faster
    try:
        config, secret = read(directory)
    except (OSError, ValueError, KeyError) as error:
        say(f"not told about this push: cannot read {directory}: {error!r}; run `edgeloop hook install` again")
        return
    for line in sys.stdin:
        old, new, ref = line.rstrip("\n").split(" ", 2)
        if ref.startswith("refs/heads/"):
            said = send(config, secret, push(config, old, new, ref))
            if said.startswith(NOT_TOLD):
                said += f"; then say `echo {old} {new} {ref} | python3 {os.path.abspath(__file__)}`"  # noqa: PTH100
            say(f"{ref[11:]}: {said}")


def read(directory: str) -> "tuple[dict[str, str], str]":
    """Return what the installation wrote: the address and names, and the secret."""
    with open(os.path.join(directory, "webhook.json"), encoding="utf-8") as file:  # noqa: PTH118, PTH123 - as above
        config = json.load(file)
    with open(os.path.join(directory, "webhook-secret"), encoding="utf-8") as file:  # noqa: PTH118, PTH123 - as above
        secret = file.read().strip()
    return {key: config[key] for key in ("url", "full_name", "clone_url", "watch")}, secret


def push(config: "dict[str, str]", old: str, new: str, ref: str) -> bytes:
    """Return the body of a push event as GitHub writes it, as far as a receiver needs it."""
    body = {
        "ref": ref,
        "before": old,
        "after": new,
        "created": not old.strip("0"),
        "deleted": not new.strip("0"),
        "repository": {
            "full_name": config["full_name"],
            "name": config["full_name"].rpartition("/")[2],
            "clone_url": config["clone_url"],
        },
        "pusher": {"name": user()},
    }
    return json.dumps(body).encode()


def send(config: "dict[str, str]", secret: str, body: bytes) -> str:
    """Return what to tell the pusher. Further attempts carry the same delivery id, so they cannot count twice."""
    url = config["url"]
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "edgeloop-hook/1",
        "X-GitHub-Event": "push",
        "X-GitHub-Delivery": str(uuid.uuid4()),
        "X-Hub-Signature-256": "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest(),
    }
    handlers = []
    if urllib.parse.urlsplit(url).hostname in LOCAL:
        handlers.append(urllib.request.ProxyHandler({}))  # a proxy cannot reach this machine's own services
    opener = urllib.request.build_opener(*handlers)
    result = ""
    for pause_s in (*PAUSES_S, 0):
        request = urllib.request.Request(url, data=body, headers=headers, method="POST")  # noqa: S310 - checked at install
        try:
            with opener.open(request, timeout=TIMEOUT_S) as response:
                return told(config, json.loads(response.read() or b"{}"))
        except urllib.error.HTTPError as error:
            result = f"{url} answered {error.code}: {error.read(500).decode(errors='replace')}"
            if error.code < 500:
                return f"{NOT_TOLD}{result}. Next: `edgeloop hook install` again"
        except (OSError, ValueError) as error:
            result = f"{url}: {getattr(error, 'reason', error)}"
        time.sleep(pause_s)
    return f"{NOT_TOLD}{result}. Next: see that `edgeloop up` runs"


def told(config: "dict[str, str]", answer: "dict[str, object]") -> str:
    """Return the webhook's answer in words."""
    if "ignored" in answer:
        return f"ignored: {answer['ignored']}"
    run = str(answer.get("run_id"))[:8]
    return f"run {run} of {answer.get('project')}; watch it with `{config['watch']} {run}`"


def user() -> str:
    """Return who pushes, as far as this machine knows."""
    try:
        return os.environ.get("GL_USERNAME") or getpass.getuser()
    except (KeyError, OSError, ImportError):  # a user id without a name
        return str(os.getuid())


def say(message: str) -> None:
    """Show a line to the pusher: git prefixes it with `remote:`."""
    sys.stderr.write(f"edgeloop: {message}\n")


if __name__ == "__main__":
    main()
