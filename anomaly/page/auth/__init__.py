"""Who looks at the page, and what they may do."""

from anomaly.page.auth.guard import Auth, Needs, admin, operate, view
from anomaly.page.auth.roles import Person, Role, allows
from anomaly.page.auth.settings import AuthSettings, read_auth

__all__ = ["Auth", "AuthSettings", "Needs", "Person", "Role", "admin", "allows", "operate", "read_auth", "view"]
