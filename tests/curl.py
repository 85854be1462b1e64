"""As much of curl as the documentation uses, for machines that do not have it."""

from __future__ import annotations

import argparse
import sys
import urllib.error
import urllib.request


def main(arguments: list[str]) -> int:
    """Make one request and print the body of its answer, whatever its status."""
    options = _parse(arguments)
    body = None if options.data is None else options.data.encode()
    request = urllib.request.Request(options.url, data=body, method=options.request)
    for header in options.header:
        name, _, value = header.partition(":")
        request.add_header(name.strip(), value.strip())
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        answer = opener.open(request, timeout=60)
    except urllib.error.HTTPError as refused:
        answer = refused
    with answer:
        if options.include:
            print(f"HTTP/1.1 {answer.status} {answer.reason}", str(answer.headers).rstrip(), sep="\n", end="\n\n")
        print(answer.read().decode(), end="")
    return 0


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="curl")
    parser.add_argument("url")
    parser.add_argument("-X", "--request")
    parser.add_argument("-H", "--header", action="append", default=[])
    parser.add_argument("-d", "--data")
    parser.add_argument("-i", "--include", action="store_true")
    parser.add_argument("-s", "--silent", action="store_true")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
