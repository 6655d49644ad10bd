//! The workers: one turn of one show at a time, and the sweep.
