"""Settings of the test run that must stand before torch is loaded."""

import os

# products of equal rows are equal to the bit, however many rows there are; MKL promises that in this mode alone
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
