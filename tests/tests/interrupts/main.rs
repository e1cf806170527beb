//! Cancel, timeout, terminate and shutdown: they act at once wherever a backend waits, and leave
//! everything behind them usable.

mod asynchronous;
mod at_once;
mod cancel;
mod cancel_races;
mod floods;
mod limits;
mod local_end;
mod more_floods;
mod notices;
mod remote_gone;
mod scene;
mod self_deadlock;
mod threads;
mod waiting;
