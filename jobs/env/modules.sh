# Example of jobs/env/local.sh for a cluster with environment modules: every job script reads that file first.
#   cp jobs/env/modules.sh jobs/env/local.sh     and put in the names of your cluster
if ! command -v module > /dev/null; then . /etc/profile.d/modules.sh; fi # jobs have no login shell
module load gcc openmpi hdf5 blis netlib-scalapack
# With Spack instead:   . .../spack/share/spack/setup-env.sh && spack env activate -d jobs/env
# Ranks on several nodes of PBS with an Open MPI that knows neither PBS nor Slurm (ssh is the default):
#   export OMPI_MCA_plm_rsh_agent=ssh
