//! The answer to a query, as a result of SQL.

use secretlink_remote::connection::Event;
use secretlink_remote::error::QueryError;
use secretlink_remote::query_request::QueryRequest;

use crate::backend::result::guc_scope::GucScope;
use crate::backend::result::tuplestore::RowSink;
use crate::connections::Target;
use crate::dblink::error::DblinkError;
use crate::session::NextResult;

/// What the last statement of a query string gave; of several, that one's result counts.
pub(crate) enum LastResult {
    /// Rows, which are in the sink.
    Rows,
    /// A command tag.
    Command(Vec<u8>),
}

/// Runs a query string and puts rows into `sink`, or ignores them. After a remote error the sink is
/// empty, whatever came before the error.
pub(crate) fn collect(
    target: &Target,
    sql: Vec<u8>,
    mut sink: Option<&mut RowSink>,
) -> Result<Result<LastResult, QueryError>, DblinkError> {
    let local_types = sink.as_deref_mut().map(RowSink::local_types).unwrap_or_default();
    let request = QueryRequest { local_types, ..QueryRequest::from(sql) };
    let mut answer = Answer::into_sink(sink);
    let failure = target.session().query(request, &target.name, |event| answer.take(event))?;
    Ok(answer.end(failure))
}

/// Collects the next result of the query that was sent, as [`collect`] does; `None` if there is no more.
pub(crate) fn collect_next(
    target: &Target,
    sink: &mut RowSink,
) -> Result<Option<Result<LastResult, QueryError>>, DblinkError> {
    let mut answer = Answer::into_sink(Some(sink));
    Ok(match target.session().next_result(&target.name, |event| answer.take(event))? {
        NextResult::Complete => Some(answer.end(None)),
        NextResult::Failed(error) => Some(answer.end(Some(error))),
        NextResult::None => None,
    })
}

/// What has come of an answer, or of one result of it.
struct Answer<'a> {
    sink: Option<&'a mut RowSink>,
    /// The remote settings under which the rows are read.
    scope: Option<GucScope>,
    in_rows: bool,
    last: Result<LastResult, QueryError>,
}

impl<'a> Answer<'a> {
    fn into_sink(sink: Option<&'a mut RowSink>) -> Answer<'a> {
        Answer { sink, scope: None, in_rows: false, last: Err(QueryError::Empty) }
    }

    fn take(&mut self, event: Event) -> Result<(), DblinkError> {
        match (event, self.sink.as_deref_mut()) {
            (Event::Columns(shape), sink) => {
                self.in_rows = true;
                if let Some(sink) = sink {
                    sink.begin(&shape.columns)?;
                    // The one before ends first: scopes are nested.
                    self.scope = None;
                    self.scope = Some(GucScope::follow(&shape));
                }
            }
            (Event::Rows(batch), Some(sink)) => sink.put(batch)?,
            (Event::Complete(tag), _) => {
                self.last = Ok(match std::mem::take(&mut self.in_rows) {
                    true => LastResult::Rows,
                    false => LastResult::Command(tag),
                });
            }
            _ => {}
        }
        Ok(())
    }

    fn end(self, failure: Option<QueryError>) -> Result<LastResult, QueryError> {
        drop(self.scope);
        let result = failure.map_or(self.last, Err);
        if let (Err(_), Some(sink)) = (&result, self.sink) {
            sink.discard();
        }
        result
    }
}
