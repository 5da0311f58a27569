# Example of jobs/env/local.sh for a cluster with environment modules; names differ from site to site.
#   cp jobs/env/modules.sh jobs/env/local.sh
module load gcc openmpi hdf5 netlib-scalapack amdblis
