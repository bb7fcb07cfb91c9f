"""Minutes of a pretraining run become minutes of its processor: what a busy machine gives to others does not count.

For the option --code: python -m spacy electra pretrain pretrain.cfg --output training/pretrain
  --code scripts/cpu_clock.py --training.max_minutes 60
"""

import time

from spacy_electra.training import loop

loop.budget_clock = time.process_time
