"""Stands in for SQS: moto on 127.0.0.1, at the port that is given."""

import os

from moto.server import main

main(["-H", "127.0.0.1", "-p", os.environ["PORT"]])
