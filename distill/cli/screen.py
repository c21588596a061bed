"""What commands show to people, see `distill.base.screen`.

Commands import this module when they run: rich alone takes longer to import than ``--help`` should.
"""

from distill.base.screen import counting_progress as counting_progress
from distill.base.screen import result_table as result_table
