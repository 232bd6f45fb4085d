"""The package beside its floors and its peers, measured in one run.

``python -m benchmarks [names...]``, or ``make bench``. Every subject has a process of its own, which keeps the
processes that it calls, and is asked for one measurement at a time, in turn with the others: so what the machine does
meanwhile falls on all of them alike, and the ratios hold where the figures do not.

A round trip between two CPUs takes two to four times as long as on one, and the kernel changes between these as it
likes. So caller and callee are bound to CPUs: to two for most rows, and to one where that is said.
"""
