"""Tests that need torch and safetensors: the reference itself. They share the oracle of tests/e2e."""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "e2e"))
