"""The settings: KEYWRIGHT_* variables and the flags that stand for them.

`table` has every setting, `reader` reads them, `variables` says which other variables there may be.
"""

from keywright.runtime.settings.common import PlaneSettings
from keywright.runtime.settings.edge import EdgeSettings
from keywright.runtime.settings.end_users import EndUserSettings
from keywright.runtime.settings.origin import OriginSettings
from keywright.runtime.settings.reader import SettingsError

__all__ = ["EdgeSettings", "EndUserSettings", "OriginSettings", "PlaneSettings", "SettingsError"]
