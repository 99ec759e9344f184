"""Who names a subject: the issuer of a manager and of a session.

Managers of before belong to the identity provider that is configured while this runs, or to the e-mail links. Where
none is configured they stay without an issuer, and their address invites. Sessions by a provider end.
"""

import sqlalchemy as sa
from alembic import context, op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

BY_LINK = "email-link"


def upgrade() -> None:
    op.add_column("managers", sa.Column("issuer", sa.Text(), nullable=True))
    op.add_column("sessions", sa.Column("issuer", sa.Text(), nullable=True))
    managers = sa.table("managers", sa.column("sub"), sa.column("issuer"))
    sessions = sa.table("sessions", sa.column("connection"), sa.column("issuer"))
    came_by_link = sa.func.substr(managers.c.sub, 1, len(BY_LINK) + 1) == BY_LINK + "|"
    op.execute(sa.update(managers).where(came_by_link).values(issuer=BY_LINK))
    op.execute(sa.update(sessions).where(sessions.c.connection == BY_LINK).values(issuer=BY_LINK))
    issuer = context.config.attributes.get("issuer")
    if issuer is not None:
        unbound = sa.and_(managers.c.sub.is_not(None), managers.c.issuer.is_(None))
        op.execute(sa.update(managers).where(unbound).values(issuer=issuer))
