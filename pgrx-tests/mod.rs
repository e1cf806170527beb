//! In-backend tests, by subject.
