use crate::server::Control;
use std::net::SocketAddr;
use std::rc::Rc;
pub struct Admin;
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct AdminError;
pub async fn listen(_c: &Rc<Control>) -> Result<Admin, AdminError> {
    Ok(Admin)
}
impl Admin {
    pub fn address(&self) -> Option<SocketAddr> {
        None
    }
}
