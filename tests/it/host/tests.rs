//! Tests of the double itself, against small handlers.
