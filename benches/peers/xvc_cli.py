"""The command line of Xvc from its package on PyPI, as its crate takes half an hour to compile.

usage: xvc_cli.py WORD ...  (words without spaces: the package splits its command line at them)
"""

import sys

import xvc

print(xvc.run_xvc(" ".join(["xvc", *sys.argv[1:]])))
