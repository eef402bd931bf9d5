/* The release, from the build (CMake passes it). */
#ifndef ORLOP_BASE_VERSION_H
#define ORLOP_BASE_VERSION_H

#ifndef ORLOP_VERSION
#define ORLOP_VERSION "0.1.0-dev"
#endif

#endif
