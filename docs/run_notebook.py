"""Runs a notebook whose outputs are kept in the repository.

python docs/run_notebook.py docs/tutorials/captum_and_xplique.ipynb

`make peers` does it for the notebook that needs other libraries.
"""

import pathlib
import sys

import nbclient
import nbformat


def run(path: pathlib.Path) -> None:
  """Runs a notebook in its folder, and writes it with its new outputs.

  Args:
    path: of the notebook; it is left as it is if a cell fails.

  Raises:
    CellExecutionError: a cell failed.
  """
  notebook = nbformat.read(path, as_version=4)
  nbclient.NotebookClient(
    notebook,
    kernel_name='python3',
    record_timing=False,  # The same outputs are the same file.
    resources={'metadata': {'path': str(path.parent)}},
  ).execute()
  for cell in notebook.cells:
    if 'outputs' in cell:
      cell.outputs = [o for o in cell.outputs if o.get('name') != 'stderr']
  nbformat.write(notebook, path)


if __name__ == '__main__':
  run(pathlib.Path(sys.argv[1]))
