//! The load test: buyers, arrivals, figures, checker, report; and the benchmark.
