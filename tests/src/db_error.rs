//! Errors that a statement is meant to end with.

use postgres::error::DbError;

/// The server's error. Panics where there was none, and where the connection broke instead.
#[track_caller]
pub fn db_error<T>(outcome: Result<T, postgres::Error>) -> DbError {
    match outcome {
        Ok(_) => panic!("the statement was expected to fail"),
        Err(error) => match error.as_db_error() {
            Some(error) => error.clone(),
            None => panic!("not an error of the server: {error:?}"),
        },
    }
}
