//! Place in line, estimates, and the pace to poll at.
